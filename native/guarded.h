// Copies of what an ioctl is given, each ending exactly where an unmapped page begins. A kernel
// that believes a count larger than the argument, or follows an address further than its buffer
// goes, reads or writes into nothing and answers EFAULT; and no other thread can change a count
// between our check and the kernel's own read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

namespace node_kvm {

class GuardedCopy {
 public:
  GuardedCopy() = default;
  GuardedCopy(const GuardedCopy&) = delete;
  GuardedCopy& operator=(const GuardedCopy&) = delete;
  ~GuardedCopy();

  // False with errno set when no memory is to be had.
  bool Fill(std::span<const uint8_t> bytes);
  std::span<uint8_t> bytes() const { return {end() - size_, size_}; }

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
  // Null with errno set when no memory is to be had. Valid until Release of an earlier mark.
  GuardedCopy* Copy(std::span<const uint8_t> bytes);
  size_t mark() const { return used_; }
  void Release(size_t mark) { used_ = mark; }

 private:
  std::deque<GuardedCopy> copies_;
  size_t used_ = 0;
};

}  // namespace node_kvm
