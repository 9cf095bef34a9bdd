// Starts threads that block all signals except a list of signals.
#pragma once

#include <pthread.h>

#include <csignal>
#include <span>

namespace node_kvm {

// While this object exists, the thread that has created the object blocks all signals except those
// of `unblocked` (0 is no signal) and the signals of the thread's own faults.
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

// Returns 0 or -errno. From its first instruction, the new thread blocks all signals except those
// of `unblocked` (0 is no signal).
int StartThread(void* (*main)(void*), void* argument, std::span<const int> unblocked,
                pthread_t* thread);

}  // namespace node_kvm
