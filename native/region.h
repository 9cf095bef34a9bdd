// Memory that this process maps (guest memory, kvm_run): who owns it and when it is unmapped. What
// JavaScript sees of it is window.h; pages that are lost under it are bus_error.h.
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

// Unmaps whole pages and leaves errno alone. Where the kernel refuses (munmap splits a mapping, and
// vm.max_map_count is reached), the addresses stay mapped, but anonymous pages are given back.
void UnmapOrEmpty(std::span<uint8_t> pages);

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
  // Null with errno set when the kernel refuses, and with ENOMEM while too many ranges are left.
  static std::shared_ptr<Range> Map(size_t length, const Backing& backing);

  // `mapped` is `length` in whole pages; `reserved` is all that goes with it.
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
  // Of the process. A range whose memory is closed counts until its last buffer is finalized, for
  // which Node waits for a turn of the event loop.
  static inline std::atomic<size_t> count_ = 0;

  std::span<uint8_t> reserved_;
  std::span<uint8_t> mapped_;
  size_t length_;
  std::unique_ptr<BusWatch> watch_;
};

// What is mapped there. Its end gives the memory back at once, or a vCPU its kvm_run; the addresses
// then hold empty pages for as long as the range lives.
//
// A VM owns the regions behind its slots (descriptor.h), so a region owns nothing that could own a
// VM: the two would keep each other for ever. A mapped kvm_run, dirty ring or guest_memfd does keep
// its VM alive in the kernel. That needs no slots: a guest is only entered through an open vCPU
// descriptor, and that owns them.
class Region {
 public:
  // Null with errno set when the kernel refuses; the backing's descriptor stays the caller's.
  // `file`, if any, stays open as long as the region lives.
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

  // Tells V8's garbage collector how much memory this region takes.
  void Report(Reported reported) { reported_ = std::move(reported); }
  void ReportAll() {
    const size_t size = range_->mapped().size();
    reported_.Set(size - std::min(size, shown_));
  }

  // Takes off what an ArrayBuffer shows from now on: V8 counts an ArrayBuffer's bytes itself.
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
