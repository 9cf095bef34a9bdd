// Threads in which no unexpected signal is delivered. What they do is their starter's.
#pragma once

#include <pthread.h>

#include <csignal>
#include <span>

namespace node_kvm {

// While it lives, all signals but the given ones (0 is none) and those of a fault of the thread's
// own are blocked in the thread that made it.
class BlockedSignals {
 public:
  explicit BlockedSignals(std::span<const int> unblocked = {});
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals();

  // 0, or -errno when nothing could be blocked.
  int error() const { return error_; }

 private:
  sigset_t before_;
  int error_;
};

// 0, or -errno. All signals but the given ones (0 is none) are blocked in the new thread, from its
// first instruction on.
int StartThread(void* (*main)(void*), void* argument, std::span<const int> unblocked,
                pthread_t* thread);

}  // namespace node_kvm
