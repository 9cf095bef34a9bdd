#include "kick.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>

#include "stay_loaded.h"

namespace node_kvm {

namespace {

std::atomic<int> kick_signal = 0;
std::mutex installers;

// What the handler knows of its thread. Initial-exec, so that the first use allocates nothing.
struct ThisThread {
  pid_t tid = 0;
  Kick* kick = nullptr;  // whose KVM_RUN it is in
  volatile bool is_signalled = false;
};
[[gnu::tls_model("initial-exec")]] thread_local ThisThread this_thread;

// The first KVM_RUN of a thread: whoever started it may have blocked the signal.
void Prepare(ThisThread& me) {
  me.tid = static_cast<pid_t>(syscall(SYS_gettid));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, kick_signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace

void OnKick(int /*signal*/) {
  this_thread.is_signalled = true;
  Kick* kick = this_thread.kick;
  if (kick == nullptr) return;  // the run has ended meanwhile
  const bool is_woken = kick->wake_ != nullptr && kick->wake_->woken;
  if (kick->reasons_ != 0 || is_woken) kick->Force();
}

void Kick::Force() {
  if (*immediate_exit_ != 0) return;
  is_forced_ = true;
  *immediate_exit_ = 1;
}

// Either we see the reason here, or who asks sees our tid: both sides write before they read.
void Kick::Request(uint32_t reasons) {
  reasons_.fetch_or(reasons);
  const pid_t tid = tid_;
  if (tid != 0) SignalThread(tid);
}

[[gnu::hot]] void Kick::Enter(Wake* wake) {
  ThisThread& me = this_thread;
  if (me.tid == 0) Prepare(me);
  wake_ = wake;
  me.is_signalled = false;
  me.kick = this;
  if (wake != nullptr) wake->is_inside.store(true, std::memory_order_relaxed);
  tid_.exchange(me.tid);
  if (reasons_ != 0 || (wake != nullptr && wake->woken)) Force();
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
  if (kick_signal != 0) return 0;
  for (int signal = SIGRTMIN + 1; signal <= SIGRTMAX; ++signal) {
    struct sigaction current = {};
    if (sigaction(signal, nullptr, &current) != 0 || (current.sa_flags & SA_SIGINFO) != 0 ||
        current.sa_handler != SIG_DFL) {
      continue;  // it is another's
    }
    struct sigaction ours = {};
    ours.sa_handler = OnKick;
    // KVM_RUN ends with EINTR all the same; whatever else the thread waits for goes on.
    ours.sa_flags = SA_RESTART | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    if (sigaction(signal, &ours, nullptr) != 0) return -errno;
    StayLoaded();
    kick_signal = signal;
    return 0;
  }
  return -EBUSY;
}

int KickSignal() { return kick_signal; }

void SignalThread(pid_t tid) {
  const int saved = errno;
  syscall(SYS_tgkill, getpid(), tid, kick_signal.load());
  errno = saved;
}

}  // namespace node_kvm
