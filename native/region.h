// Memory that this process maps: guest memory, kvm_run. Owning and
// unmapping it; what JavaScript sees of it is window.h.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace node_kvm {

inline constexpr size_t kPageSize = 4096;

// Addresses, given back when no code can still use them: a job in libuv's pool (zlib, say) goes on
// writing into an ArrayBuffer that was closed under it, and so may another thread that got the
// memory from a worker which has ended.
class Range {
 public:
  Range(uint8_t* data, size_t size) : data_(data), size_(size) {}
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  ~Range() { munmap(data_, size_); }

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_;
  size_t size_;
};

// What is mapped there. Its end gives the memory back at once, or a vCPU its kvm_run; the addresses
// then hold empty pages for as long as the range lives.
class Region {
 public:
  // Both return null with errno set when the kernel refuses.
  static std::shared_ptr<Region> Anonymous(size_t length);
  // `keeps` lives as long as the mapping: a mapped kvm_run keeps its VM alive in the kernel, so it
  // must keep the VM's memory slots too.
  static std::shared_ptr<Region> OfDescriptor(int fd, size_t offset, size_t length,
                                              std::shared_ptr<void> keeps);

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
