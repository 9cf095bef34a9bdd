#include "thread.h"

namespace node_kvm {

BlockedSignals::BlockedSignals(std::span<const int> unblocked) {
  sigset_t blocked;
  sigfillset(&blocked);
  // If the signal of a fault is blocked, a fault of the thread kills the process without calling a
  // handler.
  for (const int signal : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP}) sigdelset(&blocked, signal);
  for (const int signal : unblocked) {
    if (signal != 0) sigdelset(&blocked, signal);
  }
  error_ = -pthread_sigmask(SIG_SETMASK, &blocked, &before_);
}

BlockedSignals::~BlockedSignals() {
  // This call fails only for an unknown first argument, which the constructor has already used
  // successfully.
  if (error_ == 0) static_cast<void>(pthread_sigmask(SIG_SETMASK, &before_, nullptr));
}

int StartThread(void* (*main)(void*), void* argument, std::span<const int> unblocked,
                pthread_t* thread) {
  const BlockedSignals blocked(unblocked);
  if (blocked.error() != 0) return blocked.error();
  return -pthread_create(thread, nullptr, main, argument);
}

}  // namespace node_kvm
