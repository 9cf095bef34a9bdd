// A kick: the one way to end a KVM_RUN from another thread. It is a signal whose handler sets
// kvm_run.immediate_exit, so that a kick that arrives just before the ioctl is not lost (api.rst
// 5).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <span>

namespace node_kvm {

// Why a run is to end; several at once are one EINTR.
// NOLINTNEXTLINE(performance-enum-size): they are bits of one 32-bit word
enum Reason : uint32_t {
  kAbort = 1,   // this run, and no other
  kSticky = 2,  // this run or the next one: the kicker cannot know which one it reaches
  kPause = 4,   // this run, which will go on
  kStop = 8,    // all runs
};

// Set by the thread that wakes the event loop of a worker whose thread is in KVM_RUN; see
// loop_watch.h.
struct Wake {
  std::atomic<bool> woken = false;
  std::atomic<bool> is_inside = false;
  pid_t tid = 0;
};

// The handler; async-signal-safe.
void OnKick(int signal);

// One vCPU's; the thread that runs it calls Enter and Leave, any thread Request.
class Kick {
 public:
  explicit Kick(volatile uint8_t* immediate_exit) : immediate_exit_(immediate_exit) {}
  Kick(const Kick&) = delete;
  Kick& operator=(const Kick&) = delete;
  ~Kick() = default;

  // Ends the run that is under way, or the next one at once: 0. Or tgkill's -errno: the run that is
  // under way was not reached, and the reasons stay for its end or the next Request.
  int Request(uint32_t reasons);
  // Takes back reasons that have not ended a run.
  void Withdraw(uint32_t reasons) { reasons_.fetch_and(~reasons); }
  // Takes all reasons.
  uint32_t Take() { return reasons_.exchange(0); }

  // Around KVM_RUN. From Enter on, a request reaches this thread. Enter returns 0, or -errno when
  // this thread cannot take the signal; it must not call KVM_RUN then.
  int Enter(Wake* wake);
  void Leave(Wake* wake);
  // Whether a signal of ours came to this thread since the last call.
  static bool TakeSignal();

  bool is_immediate_exit() const { return *immediate_exit_ != 0; }

 private:
  friend void OnKick(int signal);
  void Force();

  volatile uint8_t* immediate_exit_;
  volatile bool is_forced_ = false;  // we have set immediate_exit, not JavaScript
  Wake* wake_ = nullptr;
  std::atomic<uint32_t> reasons_ = 0;
  std::atomic<pid_t> tid_ = 0;  // the thread that is in KVM_RUN, or about to be
};

// Installs the handlers, once for the process: 0, or -errno (EBUSY: no real-time signal is free).
int InstallKick();
// The signals that a kick may be; 0 where there is none (before InstallKick, both).
std::span<const int> KickSignals();
// Sends one of them to a thread of this process: 0, also when that thread has ended, or -errno.
int SignalThread(pid_t tid);

}  // namespace node_kvm
