// Copies of what an ioctl is given, each ending exactly where an unmapped page begins. A kernel
// that believes a count larger than the argument, or follows an address further than its buffer
// goes, reads or writes into nothing and answers EFAULT; and no other thread can change a count
// between our check and the kernel's own read.
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

  // False when no memory is to be had; `refusal` says which call failed.
  bool Fill(std::span<const uint8_t> bytes, Refusal* refusal);
  std::span<uint8_t> bytes() const { return {end() - size_, size_}; }
  size_t capacity() const { return capacity_; }
  void Unmap();

 private:
  uint8_t* end() const { return base_ + capacity_; }

  uint8_t* base_ = nullptr;
  size_t capacity_ = 0;  // writable bytes; one page without access follows
  size_t size_ = 0;
};

// The copies of the calls under way, used again by later ones. Calls nest: preparing one may run
// JavaScript, which may issue another. That one's copies come after, and end before.
class GuardedCopies {
 public:
  // Between calls at most so many copies are kept, each of so many bytes at most; the others are
  // unmapped. A whole CPUID table has 10 KiB, the dirty bitmap of a slot of 1 GiB 32 KiB, and an
  // MSR filter 17 copies.
  static constexpr size_t kMostKept = 32;
  static constexpr size_t kMostKeptBytes = size_t{64} << 10;

  // Null when no memory is to be had; `refusal` says which call failed. Valid until Release of an
  // earlier mark.
  GuardedCopy* Copy(std::span<const uint8_t> bytes, Refusal* refusal);
  size_t mark() const { return used_; }
  void Release(size_t mark);

 private:
  std::deque<GuardedCopy> copies_;
  size_t used_ = 0;
};

}  // namespace node_kvm
