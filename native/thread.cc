#include "thread.h"

#include <csignal>

namespace node_kvm {

int StartThread(void* (*main)(void*), void* argument, std::initializer_list<int> unblocked,
                pthread_t* thread) {
  sigset_t blocked;
  sigset_t before;
  sigfillset(&blocked);
  // A fault of the thread's own ends the process at once where its signal is blocked.
  for (const int signal : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP}) sigdelset(&blocked, signal);
  for (const int signal : unblocked) sigdelset(&blocked, signal);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  const int error = pthread_create(thread, nullptr, main, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return -error;
}

}  // namespace node_kvm
