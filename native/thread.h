// Starts threads that block all signals except the given ones.
#pragma once

#include <pthread.h>

#include <csignal>
#include <span>

namespace node_kvm {

// While this object exists, the thread that created it blocks all signals except the given ones (0
// is none) and the signals of its own faults.
class BlockedSignals {
 public:
  explicit BlockedSignals(std::span<const int> unblocked = {});
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals();

  // Returns 0, or -errno if no signal could be blocked.
  int error() const { return error_; }

 private:
  sigset_t before_;
  int error_;
};

// Returns 0 or -errno. The new thread blocks all signals except the given ones (0 is none) from its
// first instruction.
int StartThread(void* (*main)(void*), void* argument, std::span<const int> unblocked,
                pthread_t* thread);

}  // namespace node_kvm
