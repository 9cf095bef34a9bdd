// How long a thread looks for what it waits for before it sleeps. To wake an idle CPU takes tens of
// microseconds (of a virtual machine's, more); what is looked for is found at once. As KVM's own
// halt polling, it learns from the waits before: a guest that runs for long is not looked for.
#pragma once

#include <uv.h>

#include <algorithm>
#include <cstdint>

namespace node_kvm {

// One side of an exchange of two threads; used by its own thread only.
class Patience {
 public:
  // A wait begins. Returns until when to look, by uv_hrtime(); 0 is not at all. Threads that are
  // not `apart`, on one CPU, would only keep each other from running.
  uint64_t Begin(bool is_apart) {
    began_ = uv_hrtime();
    is_looking_ = false;
    if (!is_apart || !was_short_) return 0;
    if (skips_ > 0) {
      --skips_;
      return 0;
    }
    is_looking_ = true;
    return began_ + kWindowNs;
  }

  // It ends: what was waited for is there.
  void End() {
    was_short_ = uv_hrtime() - began_ < kWindowNs;
    if (!is_looking_) return;
    misses_ = was_short_ ? 0 : std::min(misses_ + 1, kMostMisses);
    skips_ = (1U << misses_) - 1;
  }

 private:
  // KVM's own halt_poll_ns. It must be longer than an exit and a wake-up together: else a wait that
  // sleeps is by that too long to be looked for the next time, and it stays so.
  static constexpr uint64_t kWindowNs = 200'000;
  static constexpr uint32_t kMostMisses = 6;

  uint64_t began_ = 0;
  bool is_looking_ = false;
  bool was_short_ = false;
  uint32_t misses_ = 0;  // in a row
  uint32_t skips_ = 0;   // so many waits sleep at once
};

}  // namespace node_kvm
