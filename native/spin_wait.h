// Decides how long a thread spins before it sleeps. Waking an idle CPU takes tens of microseconds,
// and more in a virtual machine; a spinning thread continues immediately. As in KVM's halt polling,
// the duration adapts to earlier waits, so a thread does not spin while a guest runs for a long
// time.
#pragma once

#include <uv.h>

#include <algorithm>
#include <cstdint>

namespace node_kvm {

// One side of an exchange between two threads; only the thread of this side uses the object.
class SpinWait {
 public:
  // Starts a wait. Returns the uv_hrtime() time until which the thread spins; 0 means no spinning.
  // If `apart` is false, the threads share a CPU, and spinning would only delay the other thread.
  uint64_t Begin(bool is_apart) {
    began_ = uv_hrtime();
    is_spinning_ = false;
    if (!is_apart || !was_short_) return 0;
    if (skips_ > 0) {
      --skips_;
      return 0;
    }
    is_spinning_ = true;
    return began_ + kWindowNs;
  }

  // Ends a wait after its event has occurred.
  void End() {
    was_short_ = uv_hrtime() - began_ < kWindowNs;
    if (!is_spinning_) return;
    misses_ = was_short_ ? 0 : std::min(misses_ + 1, kMostMisses);
    skips_ = (1U << misses_) - 1;
  }

 private:
  // The limit is KVM's default halt_poll_ns. The limit must be longer than an exit plus a wake-up.
  // Otherwise, every wait that sleeps would exceed the limit, and spinning would never be enabled
  // again.
  static constexpr uint64_t kWindowNs = 200'000;
  static constexpr uint32_t kMostMisses = 6;

  uint64_t began_ = 0;
  bool is_spinning_ = false;
  bool was_short_ = false;
  uint32_t misses_ = 0;  // in a row
  uint32_t skips_ = 0;   // the number of following waits that sleep without spinning
};

}  // namespace node_kvm
