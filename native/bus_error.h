// Mapped pages that cannot be had: their file was cut short, the huge pages ran out, the hardware
// lost them. Code that touches one gets SIGBUS, and it may be V8's own; so zeros take the page's
// place, and its range remembers. Who owns the memory is region.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace node_kvm {

struct WatchedRange;

// Catches SIGBUS in [data, data + size) for as long as it lives, in every thread.
class BusWatch {
 public:
  // The memory is mapped in pages of `page_size`; data and size are multiples of it. KeepBusHandler
  // has returned 0 before.
  BusWatch(const uint8_t* data, size_t size, size_t page_size);
  BusWatch(const BusWatch&) = delete;
  BusWatch& operator=(const BusWatch&) = delete;
  ~BusWatch();

  // Whether zeros took the place of a page.
  bool HasLostPages() const;

 private:
  WatchedRange* range_;
};

// Takes SIGBUS, also back from a handler that was installed since: 0, or sigaction's -errno.
int KeepBusHandler();

}  // namespace node_kvm
