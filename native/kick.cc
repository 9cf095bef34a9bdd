#include "kick.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <mutex>

#include "handler_state.h"

namespace node_kvm {

namespace {

// The first choice is a real-time signal that no other code of the process uses. The kernel queues
// real-time signals, and fails with EAGAIN if the queue is full: RLIMIT_SIGPENDING counts the
// pending signals of all processes of the user. The fallback is a standard signal, which the kernel
// delivers even if the queue is full (__send_signal_locked in kernel/signal.c).
int kick_signals[2] = {};
std::atomic<bool> is_installed = false;
std::mutex installers;

// Linux never sends the first signal of this list, and rarely sends the other signals. Node uses
// one of the signals, but only if the program has a listener for it.
constexpr int kStandardSignals[] = {SIGSTKFLT, SIGVTALRM, SIGURG, SIGUSR2};

// The state that the signal handler keeps for its thread.
struct ThisThread {
  pid_t tid = 0;
  Kick* kick = nullptr;  // the Kick of the vCPU that the thread runs with KVM_RUN
  volatile bool is_signalled = false;
};
NODE_KVM_HANDLER_STATE ThisThread this_thread;

// Called at the first KVM_RUN of a thread, because the code that started the thread may have
// blocked the signals.
int Prepare(ThisThread& me) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : KickSignals()) {
    if (signal != 0) sigaddset(&set, signal);
  }
  const int error = pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  if (error == 0) me.tid = static_cast<pid_t>(syscall(SYS_gettid));
  return -error;
}

// Returns false if the signal has another handler, or if sigaction failed.
bool Install(int signal) {
  struct sigaction current = {};
  if (sigaction(signal, nullptr, &current) != 0 || (current.sa_flags & SA_SIGINFO) != 0 ||
      current.sa_handler != SIG_DFL) {
    return false;
  }
  struct sigaction ours = {};
  ours.sa_handler = OnKick;
  // With SA_RESTART, KVM_RUN still ends with EINTR, but any other call in which the thread waits is
  // restarted.
  ours.sa_flags = SA_RESTART | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  return sigaction(signal, &ours, nullptr) == 0;
}

}  // namespace

void OnKick(int /*signal*/) {
  this_thread.is_signalled = true;
  Kick* kick = this_thread.kick;
  if (kick == nullptr) return;  // the run has ended
  const bool is_woken = kick->wake_ != nullptr && kick->wake_->woken;
  if (kick->reasons_ != 0 || is_woken) kick->Force();
}

void Kick::Force() {
  if (*immediate_exit_ != 0) return;
  is_forced_ = true;
  *immediate_exit_ = 1;
}

// Both sides store before they load, so either Enter reads the reason, or this thread reads the
// tid.
int Kick::Request(uint32_t reasons) {
  reasons_.fetch_or(reasons);
  const pid_t tid = tid_;
  return tid == 0 ? 0 : SignalThread(tid);
}

[[gnu::hot]] int Kick::Enter(Wake* wake) {
  ThisThread& me = this_thread;
  if (me.tid == 0) {
    const int error = Prepare(me);
    if (error != 0) return error;
  }
  wake_ = wake;
  me.is_signalled = false;
  me.kick = this;
  if (wake != nullptr) wake->is_inside.store(true, std::memory_order_relaxed);
  tid_.exchange(me.tid);
  if (reasons_ != 0 || (wake != nullptr && wake->woken)) Force();
  return 0;
}

[[gnu::hot]] void Kick::Leave(Wake* wake) {
  tid_.store(0, std::memory_order_release);
  if (wake != nullptr) wake->is_inside.store(false, std::memory_order_release);
  this_thread.kick = nullptr;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (!is_forced_) return;
  is_forced_ = false;
  *immediate_exit_ = 0;
}

bool Kick::TakeSignal() {
  const bool is_signalled = this_thread.is_signalled;
  this_thread.is_signalled = false;
  return is_signalled;
}

int InstallKick() {
  const std::lock_guard lock(installers);
  if (is_installed) return 0;
  int signal = SIGRTMIN + 1;
  while (signal <= SIGRTMAX && !Install(signal)) ++signal;
  if (signal > SIGRTMAX) return -EBUSY;
  kick_signals[0] = signal;
  for (const int standard : kStandardSignals) {
    if (!Install(standard)) continue;
    kick_signals[1] = standard;
    break;
  }
  is_installed = true;
  return 0;
}

std::span<const int> KickSignals() {
  return is_installed ? std::span<const int>(kick_signals) : std::span<const int>();
}

int SignalThread(pid_t tid) {
  const int saved = errno;
  int error = 0;
  for (const int signal : KickSignals()) {
    if (signal == 0) continue;
    error = syscall(SYS_tgkill, getpid(), tid, signal) == 0 ? 0 : errno;
    if (error == ESRCH) error = 0;
    if (error == 0) break;
  }
  errno = saved;
  return -error;
}

}  // namespace node_kvm
