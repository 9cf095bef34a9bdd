// Mapped pages that are not available: their file was truncated, no huge pages are free, or the
// hardware lost them. Code that accesses one gets SIGBUS, possibly inside V8. The handler replaces
// the page by zeros and marks its range. The owner of the memory is region.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace node_kvm {

struct WatchedRange;

// Handles SIGBUS in [data, data + size) while it exists, in every thread.
class BusWatch {
 public:
  // The page size is `page_size`; data and size are multiples of it. KeepBusHandler must have
  // returned 0 before.
  BusWatch(const uint8_t* data, size_t size, size_t page_size);
  BusWatch(const BusWatch&) = delete;
  BusWatch& operator=(const BusWatch&) = delete;
  ~BusWatch();

  // Whether a page was replaced by zeros.
  bool HasLostPages() const;

 private:
  WatchedRange* range_;
};

// Installs the SIGBUS handler, also over a handler that was installed since: 0, or sigaction's
// -errno.
int KeepBusHandler();

}  // namespace node_kvm
