#include "region.h"

#include <algorithm>
#include <cerrno>

namespace node_kvm {

namespace {

constexpr size_t kHugePageSize = size_t{2} << 20;

// Each address range needs two mappings, and the kernel allows a process 65,530 mappings
// (vm.max_map_count).
constexpr size_t kMostRanges = 24'000;

constexpr uintptr_t RoundUp(uintptr_t value, size_t multiple) {
  return (value + multiple - 1) & ~(multiple - 1);
}

}  // namespace

void UnmapOrEmpty(std::span<uint8_t> pages) {
  const int saved = errno;
  if (munmap(pages.data(), pages.size()) != 0) {
    // If this call also fails, the memory cannot be freed.
    static_cast<void>(madvise(pages.data(), pages.size(), MADV_DONTNEED));
  }
  errno = saved;
}

std::shared_ptr<Range> Range::Map(size_t length, const Backing& backing) {
  // The limit of ranges is below the kernel's limit, because the process aborts if malloc gets no
  // mapping.
  if (count_ >= kMostRanges) {
    errno = ENOMEM;
    return nullptr;
  }
  const size_t size = RoundUp(length, backing.page_size);
  // KVM maps a huge page only if the lower bits of the host address equal those of the guest
  // address.
  const size_t alignment = size < kHugePageSize ? kPageSize : kHugePageSize;
  const size_t slack = std::max(alignment, backing.page_size) - kPageSize;
  const size_t whole = slack + size + kPageSize;
  void* base = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  auto* first = static_cast<uint8_t*>(base);
  const uintptr_t address = reinterpret_cast<uintptr_t>(base);
  uint8_t* data = first + (RoundUp(address, slack + kPageSize) - address);
  const void* mapped = mmap(data, size, PROT_READ | PROT_WRITE, backing.flags | MAP_FIXED,
                            backing.fd, static_cast<off_t>(backing.offset));
  if (mapped == MAP_FAILED) {
    UnmapOrEmpty({first, whole});
    return nullptr;
  }
  return std::make_shared<Range>(std::span(first, whole), std::span(data, size), length,
                                 backing.page_size);
}

Range::~Range() {
  --count_;
  watch_.reset();  // the watch ends first, because unmapped addresses may be reused
  UnmapOrEmpty(reserved_);
}

std::shared_ptr<Region> Region::Map(size_t length, const Backing& backing,
                                    std::shared_ptr<UniqueFd> file) {
  std::shared_ptr<Range> range = Range::Map(length, backing);
  if (range == nullptr) return nullptr;
  return std::make_shared<Region>(std::move(range), std::move(file));
}

std::shared_ptr<Region> Region::OfDescriptor(int fd, size_t length, uint64_t offset) {
  return Map(length, {.flags = MAP_SHARED, .fd = fd, .offset = offset});
}

Region::~Region() {
  if (range_.use_count() == 1) return;  // no window exists any more, so the range unmaps itself
  // If this call fails, the pages stay allocated until the range is destroyed.
  const std::span<uint8_t> mapped = range_->mapped();
  // NOLINTNEXTLINE(bugprone-unused-return-value)
  static_cast<void>(mmap(mapped.data(), mapped.size(), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0));
}

}  // namespace node_kvm
