// Owns memory that this process maps (guest memory, kvm_run), and unmaps it. window.h has
// JavaScript's views of the memory; bus_error.h handles lost pages.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "bus_error.h"
#include "external_memory.h"
#include "unique_fd.h"

namespace node_kvm {

inline constexpr size_t kPageSize = 4096;

// Unmaps whole pages and preserves errno. If the kernel fails (munmap splits a mapping, and
// vm.max_map_count is reached), the addresses stay mapped, but the memory of anonymous pages is
// freed.
void UnmapOrEmpty(std::span<uint8_t> pages);

// The arguments of mmap besides the length. The flags or the file select the size of huge pages.
struct Backing {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  int fd = -1;
  uint64_t offset = 0;
  size_t page_size = kPageSize;
};

// A range of addresses, which is released when no code can use the addresses any more. After memory
// was closed, a job in libuv's thread pool (for example, zlib) may still write into its
// ArrayBuffer. Another thread that received the memory from an ended worker may also still write
// into it. An inaccessible page follows the range, so that the kernel cannot access memory behind
// it.
class Range {
 public:
  // Returns null with errno set if a system call fails; errno is ENOMEM if too many ranges exist.
  static std::shared_ptr<Range> Map(size_t length, const Backing& backing);

  // `mapped` is `length` rounded up to whole pages; `reserved` includes the inaccessible page.
  Range(std::span<uint8_t> reserved, std::span<uint8_t> mapped, size_t length, size_t page_size)
      : reserved_(reserved),
        mapped_(mapped),
        length_(length),
        watch_(std::make_unique<BusWatch>(mapped.data(), mapped.size(), page_size)) {
    ++count_;
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  ~Range();

  uint8_t* data() const { return mapped_.data(); }
  size_t size() const { return length_; }
  std::span<uint8_t> mapped() const { return mapped_; }
  bool HasLostPages() const { return watch_->HasLostPages(); }

 private:
  // The number of address ranges in the process. A range whose memory is closed counts until its
  // last buffer is finalized, which Node does in a later turn of the event loop.
  static inline std::atomic<size_t> count_ = 0;

  std::span<uint8_t> reserved_;
  std::span<uint8_t> mapped_;
  size_t length_;
  std::unique_ptr<BusWatch> watch_;
};

// The mapping in a range. The destructor frees the memory (or a vCPU's kvm_run) immediately; the
// addresses then have empty pages until the range is destroyed. A VM owns the regions of its slots
// (descriptor.h), so a region must not own an object that owns a VM, because this would be a
// reference cycle. A mapped kvm_run, dirty ring or guest_memfd keeps the VM in the kernel. A
// mapping of this kind does not have to own the slots, because only an open vCPU descriptor can
// enter a guest, and the vCPU's descriptor owns the slots.
class Region {
 public:
  // Returns null with errno set if the kernel fails; the caller then keeps the backing's
  // descriptor. If `file` is passed, it stays open until the region is destroyed.
  static std::shared_ptr<Region> Map(size_t length, const Backing& backing,
                                     std::shared_ptr<UniqueFd> file = nullptr);
  static std::shared_ptr<Region> OfDescriptor(int fd, size_t length, uint64_t offset = 0);

  Region(std::shared_ptr<Range> range, std::shared_ptr<UniqueFd> file)
      : range_(std::move(range)), file_(std::move(file)) {}
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

  uint8_t* data() const { return range_->data(); }
  size_t size() const { return range_->size(); }
  const std::shared_ptr<Range>& range() const { return range_; }

  // Reports the memory of this region to V8's garbage collector.
  void Report(Reported reported) { reported_ = std::move(reported); }
  void ReportAll() {
    const size_t size = range_->mapped().size();
    reported_.Set(size - std::min(size, shown_));
  }

  // Subtracts the bytes of a new ArrayBuffer from the reported memory, because V8 itself counts the
  // bytes of ArrayBuffers.
  void Shown(size_t length) {
    shown_ += length;
    reported_.Set(reported_.bytes() - std::min(reported_.bytes(), length));
  }

 private:
  std::shared_ptr<Range> range_;
  std::shared_ptr<UniqueFd> file_;
  Reported reported_;
  size_t shown_ = 0;
};

}  // namespace node_kvm
