// Memory that this process maps: guest memory, kvm_run. Owning and
// unmapping it; what JavaScript sees of it is window.h, what becomes of lost pages bus_error.h.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "bus_error.h"

namespace node_kvm {

inline constexpr size_t kPageSize = 4096;

// What mmap is told beyond the length. With pages of another size the flags or the file say so too.
struct Backing {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  int fd = -1;
  uint64_t offset = 0;
  size_t page_size = kPageSize;
};

// Addresses, given back when no code can still use them: a job in libuv's pool (zlib, say) goes on
// writing into an ArrayBuffer that was closed under it, and so may another thread that got the
// memory from a worker which has ended. A page without access follows them, so that a kernel that
// counts too far never reaches a neighbour.
class Range {
 public:
  // Null with errno set when the kernel refuses.
  static std::shared_ptr<Range> Map(size_t length, const Backing& backing);

  // `mapped` is `length` in whole pages; `reserved` is all that goes with it.
  Range(std::span<uint8_t> reserved, std::span<uint8_t> mapped, size_t length, size_t page_size)
      : reserved_(reserved),
        mapped_(mapped),
        length_(length),
        watch_(std::make_unique<BusWatch>(mapped.data(), mapped.size(), page_size)) {}
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  ~Range();

  uint8_t* data() const { return mapped_.data(); }
  size_t size() const { return length_; }
  std::span<uint8_t> mapped() const { return mapped_; }
  bool HasLostPages() const { return watch_->HasLostPages(); }

 private:
  std::span<uint8_t> reserved_;
  std::span<uint8_t> mapped_;
  size_t length_;
  std::unique_ptr<BusWatch> watch_;
};

// What is mapped there. Its end gives the memory back at once, or a vCPU its kvm_run; the addresses
// then hold empty pages for as long as the range lives.
class Region {
 public:
  // Null with errno set when the kernel refuses; the backing's descriptor stays the caller's.
  static std::shared_ptr<Region> Map(size_t length, const Backing& backing,
                                     std::shared_ptr<void> keeps = nullptr);
  // `keeps` lives as long as the mapping: a mapped kvm_run keeps its VM alive in the kernel, so it
  // must keep the VM's memory slots too.
  static std::shared_ptr<Region> OfDescriptor(int fd, size_t length, std::shared_ptr<void> keeps,
                                              uint64_t offset = 0);

  Region(std::shared_ptr<Range> range, std::shared_ptr<void> keeps)
      : range_(std::move(range)), keeps_(std::move(keeps)) {}
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

  uint8_t* data() const { return range_->data(); }
  size_t size() const { return range_->size(); }
  const std::shared_ptr<Range>& range() const { return range_; }

 private:
  std::shared_ptr<Range> range_;
  std::shared_ptr<void> keeps_;
};

}  // namespace node_kvm
