#include "exit_filter.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "ioctl.h"

namespace node_kvm {

namespace {

// struct kvm_coalesced_mmio
struct Entry {
  uint64_t phys_addr;
  uint32_t len;
  uint32_t pio;
  uint8_t data[8];
};
constexpr size_t kHeader = 2 * sizeof(uint32_t);
constexpr uint32_t kPlaces = (WriteRing::kBytes - kHeader) / sizeof(Entry);

template <class T>
T At(std::span<const uint8_t> run, size_t offset) {
  T value = {};
  memcpy(&value, run.data() + offset, sizeof(value));
  return value;
}

// Answers a read: writes the low `size` bytes of a value into each element. A string instruction
// may have several elements.
void Answer(std::span<uint8_t> elements, uint64_t value, size_t size) {
  for (size_t at = 0; at + size <= elements.size(); at += size) {
    memcpy(elements.data() + at, &value, size);
  }
}

}  // namespace

bool WriteRing::Put(uint64_t address, bool is_pio, std::span<const uint8_t> elements,
                    uint32_t size) {
  auto* header = reinterpret_cast<uint32_t*>(region_->data());
  const std::atomic_ref<uint32_t> first(header[0]);
  const std::atomic_ref<uint32_t> last(header[1]);
  uint32_t place = last.load(std::memory_order_relaxed);
  const uint32_t end = first.load(std::memory_order_acquire);
  // JavaScript may have written invalid indices into the ring.
  if (place >= kPlaces || end >= kPlaces) return false;
  const uint32_t free = (end + kPlaces - place - 1) % kPlaces;
  const size_t count = elements.size() / size;
  if (count > free) return false;
  for (size_t i = 0; i < count; ++i) {
    Entry entry = {address, size, is_pio ? 1U : 0U, {}};
    memcpy(entry.data, elements.data() + i * size, size);
    memcpy(region_->data() + kHeader + place * sizeof(Entry), &entry, sizeof(entry));
    place = (place + 1) % kPlaces;
  }
  last.store(place, std::memory_order_release);
  return true;
}

std::vector<FilterRule> ExitFilter::Read(std::span<const uint8_t> bytes) {
  std::vector<FilterRule> rules(bytes.size() / sizeof(FilterRule));
  if (!rules.empty()) memcpy(rules.data(), bytes.data(), bytes.size());
  return rules;
}

bool ExitFilter::Handle(std::span<uint8_t> run) {
  switch (At<uint32_t>(run, kRunExitReasonOffset)) {
    case kKvmExitIo:
      return HandleIo(run);
    case kKvmExitMmio:
      return HandleMmio(run);
    case kKvmExitX86Rdmsr:
      return HandleMsr(run, false);
    case kKvmExitX86Wrmsr:
      return HandleMsr(run, true);
    default:
      return false;
  }
}

// Returns the first rule that contains the whole access.
const FilterRule* ExitFilter::Find(uint32_t space, uint64_t first, uint64_t size) const {
  for (const FilterRule& rule : rules_) {
    if (rule.space == space && first >= rule.first && first <= rule.last &&
        size - 1 <= rule.last - first && (rule.size == 0 || rule.size == size)) {
      return &rule;
    }
  }
  return nullptr;
}

bool ExitFilter::HandleIo(std::span<uint8_t> run) {
  const auto size = At<uint8_t>(run, kRunIoSizeOffset);
  const auto port = At<uint16_t>(run, kRunIoPortOffset);
  const size_t bytes = size_t{size} * At<uint32_t>(run, kRunIoCountOffset);
  const auto offset = At<uint64_t>(run, kRunIoDataOffsetOffset);
  if (size == 0 || size > 8 || offset > run.size() || bytes > run.size() - offset) return false;
  const FilterRule* rule = Find(FilterRule::kPio, port, size);
  if (rule == nullptr) return false;
  const std::span<uint8_t> elements = run.subspan(offset, bytes);
  if (At<uint8_t>(run, kRunIoDirectionOffset) == kKvmExitIoIn) {
    if (rule->answers == 0) return false;
    Answer(elements, rule->value, size);
    return true;
  }
  return rule->write == FilterRule::kIgnore ||
         (rule->write == FilterRule::kCollect && ring_.Put(port, true, elements, size));
}

bool ExitFilter::HandleMmio(std::span<uint8_t> run) {
  const auto address = At<uint64_t>(run, kRunMmioPhysAddrOffset);
  const auto size = At<uint32_t>(run, kRunMmioLenOffset);
  if (size == 0 || size > 8) return false;
  const FilterRule* rule = Find(FilterRule::kMmio, address, size);
  if (rule == nullptr) return false;
  const std::span<uint8_t> data = run.subspan(kRunMmioDataOffset, size);
  if (At<uint8_t>(run, kRunMmioIsWriteOffset) == 0) {
    if (rule->answers == 0) return false;
    Answer(data, rule->value, size);
    return true;
  }
  return rule->write == FilterRule::kIgnore ||
         (rule->write == FilterRule::kCollect && ring_.Put(address, false, data, size));
}

bool ExitFilter::HandleMsr(std::span<uint8_t> run, bool is_write) {
  const FilterRule* rule = Find(FilterRule::kMsr, At<uint32_t>(run, kRunMsrIndexOffset), 1);
  if (rule == nullptr) return false;
  if (is_write ? rule->write != FilterRule::kIgnore : rule->answers == 0) return false;
  run[kRunMsrErrorOffset] = 0;
  if (!is_write) memcpy(run.data() + kRunMsrDataOffset, &rule->value, sizeof(rule->value));
  return true;
}

}  // namespace node_kvm
