// Handles exits without JavaScript: ignores them, answers them with a constant, or collects them in
// a ring. lib/kvm/run/exit-filter.ts encodes the rules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "region.h"

namespace node_kvm {

// A rule in the encoding of lib/kvm/run/exit-filter.ts.
struct FilterRule {
  // The enumerations Space and Write are fields of 32 bits.
  // NOLINTNEXTLINE(performance-enum-size)
  enum Space : uint32_t { kPio, kMmio, kMsr };
  // NOLINTNEXTLINE(performance-enum-size)
  enum Write : uint32_t { kLeave, kIgnore, kCollect };

  uint64_t first;
  uint64_t last;
  uint64_t value;  // the value that a matching read returns
  uint32_t space;
  uint32_t write;
  uint32_t answers;  // whether reads are answered with `value`
  uint32_t size;     // the size of the access; 0 matches any size
};
static_assert(sizeof(FilterRule) == 40);

// A ring with one writer and one reader. The reader is JavaScript; the writer may be on another
// thread. The ring has the layout of KVM's struct kvm_coalesced_mmio_ring, but more entries.
class WriteRing {
 public:
  static constexpr size_t kBytes = 16 * kPageSize;

  explicit WriteRing(std::shared_ptr<Region> region) : region_(std::move(region)) {}

  // Returns false and writes nothing if the ring has no room for all writes.
  bool Put(uint64_t address, bool is_pio, std::span<const uint8_t> elements, uint32_t size);

 private:
  std::shared_ptr<Region> region_;
};

class ExitFilter {
 public:
  // The bytes must contain whole rules.
  static std::vector<FilterRule> Read(std::span<const uint8_t> bytes);

  ExitFilter(std::vector<FilterRule> rules, WriteRing ring)
      : rules_(std::move(rules)), ring_(std::move(ring)) {}

  // Returns whether the filter has handled the exit in kvm_run.
  bool Handle(std::span<uint8_t> run);

 private:
  const FilterRule* Find(uint32_t space, uint64_t first, uint64_t size) const;
  bool HandleIo(std::span<uint8_t> run);
  bool HandleMmio(std::span<uint8_t> run);
  bool HandleMsr(std::span<uint8_t> run, bool is_write);

  std::vector<FilterRule> rules_;
  WriteRing ring_;
};

}  // namespace node_kvm
