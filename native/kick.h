// A kick: the one way to end a KVM_RUN from another thread. It is a signal whose handler sets
// kvm_run.immediate_exit, so that none is lost between the last look and the kernel's (api.rst 5).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <csignal>
#include <cstdint>

namespace node_kvm {

// Why a run is to end; several at once are one EINTR.
// NOLINTNEXTLINE(performance-enum-size): they are bits of one 32-bit word
enum Reason : uint32_t {
  kAbort = 1,   // this run, and no other
  kSticky = 2,  // this run or the next one: whoever asks cannot know which it is
  kPause = 4,   // this run, which will go on
  kStop = 8,    // all runs
};

// Set by whoever wakes the event loop of a worker whose thread is in KVM_RUN; see loop_watch.h.
struct Wake {
  std::atomic<bool> woken = false;
  std::atomic<bool> is_inside = false;
  pid_t tid = 0;
};

// One vCPU's; the thread that runs it calls Enter and Leave, any thread Request.
class Kick {
 public:
  explicit Kick(volatile uint8_t* immediate_exit) : immediate_exit_(immediate_exit) {}
  Kick(const Kick&) = delete;
  Kick& operator=(const Kick&) = delete;
  ~Kick() = default;

  // Ends the run that is under way, or the next one at once.
  void Request(uint32_t reasons);
  // Takes back what was asked for and has not happened.
  void Withdraw(uint32_t reasons) { reasons_.fetch_and(~reasons); }
  // Takes all that was asked for.
  uint32_t Take() { return reasons_.exchange(0); }

  // Around KVM_RUN. From Enter on, a request reaches this thread.
  void Enter(Wake* wake);
  void Leave(Wake* wake);
  // Whether a signal of ours came to this thread since it was last asked.
  static bool TakeSignal();

  bool is_immediate_exit() const { return *immediate_exit_ != 0; }

 private:
  friend void OnKick(int signal);
  void Force();

  volatile uint8_t* immediate_exit_;
  volatile bool is_forced_ = false;  // we have set immediate_exit, not JavaScript
  Wake* wake_ = nullptr;
  std::atomic<uint32_t> reasons_ = 0;
  std::atomic<pid_t> tid_ = 0;  // who is in KVM_RUN, or about to be
};

// Installs the handler, once for the process: 0, or -errno when no real-time signal is free.
int InstallKick();
// Which signal it is; 0 before it was installed.
int KickSignal();
// Sends it to a thread of this process.
void SignalThread(pid_t tid);

}  // namespace node_kvm
