// Memory that this process maps: guest memory, kvm_run, an argument's scratch space. Owning and
// unmapping it; what JavaScript sees of it is window.h.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace node_kvm {

inline constexpr size_t kPageSize = 4096;

class Region {
 public:
  // Both return null with errno set when the kernel refuses.
  static std::shared_ptr<Region> Anonymous(size_t length);
  // `keeps` lives as long as the mapping: a mapped kvm_run keeps its VM alive in the kernel, so it
  // must keep the VM's memory slots too.
  static std::shared_ptr<Region> OfDescriptor(int fd, size_t length, std::shared_ptr<void> keeps);

  Region(uint8_t* data, size_t size, std::shared_ptr<void> keeps)
      : data_(data), size_(size), keeps_(std::move(keeps)) {}
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region() { munmap(data_, size_); }

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_;
  size_t size_;
  std::shared_ptr<void> keeps_;
};

// A copy of an ioctl's argument that ends exactly where an unmapped page begins. A kernel that
// believes a count larger than the argument reads or writes into nothing and answers EFAULT; and
// no other thread can change the count between our check and the kernel's own read.
class GuardedArgument {
 public:
  GuardedArgument() = default;
  GuardedArgument(const GuardedArgument&) = delete;
  GuardedArgument& operator=(const GuardedArgument&) = delete;
  ~GuardedArgument();

  // Empty with errno set when no memory is to be had. Valid until the next Fill.
  std::span<uint8_t> Fill(std::span<const uint8_t> argument);

 private:
  uint8_t* base_ = nullptr;
  size_t capacity_ = 0;  // writable bytes; one page without access follows
};

}  // namespace node_kvm
