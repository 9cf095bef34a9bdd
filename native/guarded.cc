#include "guarded.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "region.h"

namespace node_kvm {

void GuardedCopy::Unmap() {
  if (base_ == nullptr) return;
  UnmapOrEmpty({base_, capacity_ + kPageSize});
  base_ = nullptr;
  capacity_ = 0;
  size_ = 0;
}

bool GuardedCopy::Fill(std::span<const uint8_t> bytes, Refusal* refusal) {
  if (base_ == nullptr || bytes.size() > capacity_) {
    const size_t rounded = (bytes.size() + kPageSize - 1) & ~(kPageSize - 1);
    const size_t capacity = std::max(rounded, kPageSize);
    void* base = mmap(nullptr, capacity + kPageSize, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
      *refusal = Refusal::Of("mmap");
      return false;
    }
    if (mprotect(static_cast<uint8_t*>(base) + capacity, kPageSize, PROT_NONE) != 0) {
      *refusal = Refusal::Of("mprotect");
      UnmapOrEmpty({static_cast<uint8_t*>(base), capacity + kPageSize});
      return false;
    }
    Unmap();
    base_ = static_cast<uint8_t*>(base);
    capacity_ = capacity;
  }
  size_ = bytes.size();
  if (size_ > 0) memcpy(end() - size_, bytes.data(), size_);
  return true;
}

void GuardedCopies::Release(size_t mark) {
  for (; used_ > mark; --used_) {
    GuardedCopy& copy = copies_[used_ - 1];
    if (copy.capacity() > kMostKeptBytes) copy.Unmap();
  }
  while (copies_.size() > std::max(used_, kMostKept)) copies_.pop_back();
}

GuardedCopy* GuardedCopies::Copy(std::span<const uint8_t> bytes, Refusal* refusal) {
  if (used_ == copies_.size()) copies_.emplace_back();
  GuardedCopy& copy = copies_[used_];
  if (!copy.Fill(bytes, refusal)) return nullptr;
  used_ += 1;
  return &copy;
}

}  // namespace node_kvm
