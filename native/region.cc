#include "region.h"

#include <cstring>

namespace node_kvm {

namespace {

size_t RoundToPage(size_t length) { return (length + kPageSize - 1) & ~(kPageSize - 1); }

std::shared_ptr<Region> Adopt(void* address, size_t length, std::shared_ptr<void> keeps) {
  if (address == MAP_FAILED) return nullptr;
  return std::make_shared<Region>(std::make_shared<Range>(static_cast<uint8_t*>(address), length),
                                  std::move(keeps));
}

}  // namespace

std::shared_ptr<Region> Region::Anonymous(size_t length) {
  return Adopt(mmap(nullptr, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
               length, nullptr);
}

std::shared_ptr<Region> Region::OfDescriptor(int fd, size_t length, std::shared_ptr<void> keeps) {
  return Adopt(mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), length,
               std::move(keeps));
}

Region::~Region() {
  if (range_.use_count() == 1) return;  // no window left: the range unmaps itself
  // On failure the old pages stay until the range goes: late, but safe.
  // NOLINTNEXTLINE(bugprone-unused-return-value)
  static_cast<void>(mmap(data(), size(), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0));
}

GuardedArgument::~GuardedArgument() {
  if (base_ != nullptr) munmap(base_, capacity_ + kPageSize);
}

std::span<uint8_t> GuardedArgument::Fill(std::span<const uint8_t> argument) {
  if (argument.size() > capacity_) {
    const size_t capacity = RoundToPage(argument.size());
    void* base = mmap(nullptr, capacity + kPageSize, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return {};
    if (mprotect(static_cast<uint8_t*>(base) + capacity, kPageSize, PROT_NONE) != 0) {
      munmap(base, capacity + kPageSize);
      return {};
    }
    if (base_ != nullptr) munmap(base_, capacity_ + kPageSize);
    base_ = static_cast<uint8_t*>(base);
    capacity_ = capacity;
  }
  uint8_t* start = base_ + capacity_ - argument.size();
  memcpy(start, argument.data(), argument.size());
  return {start, argument.size()};
}

}  // namespace node_kvm
