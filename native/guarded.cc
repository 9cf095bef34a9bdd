#include "guarded.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "region.h"

namespace node_kvm {

GuardedCopy::~GuardedCopy() {
  if (base_ != nullptr) munmap(base_, capacity_ + kPageSize);
}

bool GuardedCopy::Fill(std::span<const uint8_t> bytes) {
  if (base_ == nullptr || bytes.size() > capacity_) {
    const size_t rounded = (bytes.size() + kPageSize - 1) & ~(kPageSize - 1);
    const size_t capacity = std::max(rounded, kPageSize);
    void* base = mmap(nullptr, capacity + kPageSize, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return false;
    if (mprotect(static_cast<uint8_t*>(base) + capacity, kPageSize, PROT_NONE) != 0) {
      munmap(base, capacity + kPageSize);
      return false;
    }
    if (base_ != nullptr) munmap(base_, capacity_ + kPageSize);
    base_ = static_cast<uint8_t*>(base);
    capacity_ = capacity;
  }
  size_ = bytes.size();
  if (size_ > 0) memcpy(end() - size_, bytes.data(), size_);
  return true;
}

GuardedCopy* GuardedCopies::Copy(std::span<const uint8_t> bytes) {
  if (used_ == copies_.size()) copies_.emplace_back();
  GuardedCopy& copy = copies_[used_];
  if (!copy.Fill(bytes)) return nullptr;
  used_ += 1;
  return &copy;
}

}  // namespace node_kvm
