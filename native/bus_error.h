// Handles accesses to mapped pages that are not available, because the file was truncated, no huge
// pages are free, or the hardware lost the page. An access to such a page raises SIGBUS, possibly
// inside V8. The handler replaces the page by zeros and marks the page's range. region.h has the
// owner of the memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace node_kvm {

struct WatchedRange;

// Handles SIGBUS in [data, data + size) in every thread, as long as this object exists.
class BusWatch {
 public:
  // The page size is `page_size`; data and size are multiples of it. KeepBusHandler must have
  // returned 0 before.
  BusWatch(const uint8_t* data, size_t size, size_t page_size);
  BusWatch(const BusWatch&) = delete;
  BusWatch& operator=(const BusWatch&) = delete;
  ~BusWatch();

  // Returns whether the handler has replaced a page by zeros.
  bool HasLostPages() const;

 private:
  WatchedRange* range_;
};

// Installs the SIGBUS handler, also if another handler has replaced it: returns 0, or sigaction's
// -errno.
int KeepBusHandler();

}  // namespace node_kvm
