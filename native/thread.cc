#include "thread.h"

#include <csignal>

namespace node_kvm {

int StartThread(void* (*main)(void*), void* argument, std::span<const int> unblocked,
                pthread_t* thread) {
  sigset_t blocked;
  sigset_t before;
  sigfillset(&blocked);
  // A fault of the thread's own ends the process at once where its signal is blocked.
  for (const int signal : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP}) sigdelset(&blocked, signal);
  for (const int signal : unblocked) {
    if (signal != 0) sigdelset(&blocked, signal);
  }
  int error = pthread_sigmask(SIG_SETMASK, &blocked, &before);
  if (error != 0) return -error;
  error = pthread_create(thread, nullptr, main, argument);
  // It fails for an unknown first argument alone, and that one was taken above.
  static_cast<void>(pthread_sigmask(SIG_SETMASK, &before, nullptr));
  return -error;
}

}  // namespace node_kvm
