// Copies of ioctl arguments that end at an unmapped page. If a count exceeds the argument, or if a
// buffer is smaller than the kernel assumes, the kernel accesses the unmapped page and returns
// EFAULT. Because the kernel reads the copy, no other thread can change a count between the check
// and the kernel's read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

#include "refusal.h"

namespace node_kvm {

class GuardedCopy {
 public:
  GuardedCopy() = default;
  GuardedCopy(const GuardedCopy&) = delete;
  GuardedCopy& operator=(const GuardedCopy&) = delete;
  ~GuardedCopy() { Unmap(); }

  // Returns false if no memory is available; `refusal` names the failed call.
  bool Fill(std::span<const uint8_t> bytes, Refusal* refusal);
  std::span<uint8_t> bytes() const { return {end() - size_, size_}; }
  size_t capacity() const { return capacity_; }
  void Unmap();

 private:
  uint8_t* end() const { return base_ + capacity_; }

  uint8_t* base_ = nullptr;
  size_t capacity_ = 0;  // Returns writable bytes, which an inaccessible page follows.
  size_t size_ = 0;
};

// The copies of the arguments of the current calls. Later calls reuse the memory of the copies.
// Calls nest: preparing an argument may run JavaScript, which may issue another ioctl. The copies
// of the nested call are acquired later and released earlier.
class GuardedCopies {
 public:
  // The maximum number and size of copies that are kept between calls; other copies are unmapped. A
  // CPUID table with the maximum number of entries has 10 KiB, the dirty bitmap of a slot of 1 GiB
  // has 32 KiB, and an MSR filter needs 17 copies.
  static constexpr size_t kMostKept = 32;
  static constexpr size_t kMostKeptBytes = size_t{64} << 10;

  // Returns null if no memory is available; `refusal` names the failed call. The bytes are valid
  // until Release is called with an earlier mark.
  GuardedCopy* Copy(std::span<const uint8_t> bytes, Refusal* refusal);
  size_t mark() const { return used_; }
  void Release(size_t mark);

 private:
  std::deque<GuardedCopy> copies_;
  size_t used_ = 0;
};

}  // namespace node_kvm
