// A kick interrupts KVM_RUN from another thread. A kick sends a signal whose handler sets
// kvm_run.immediate_exit, so that a kick that arrives just before the ioctl is not lost (api.rst
// 5).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <span>

namespace node_kvm {

// The reasons for a kick; several reasons at the same time cause one EINTR.
// NOLINTNEXTLINE(performance-enum-size): they are bits of one 32-bit word
enum Reason : uint32_t {
  kAbort = 1,   // the kick interrupts only the current run
  kSticky = 2,  // the kick interrupts the current run or the next run
  kPause = 4,   // the kick interrupts the current run, which continues later
  kStop = 8,    // the kick interrupts all runs
};

// The state through which LoopWatch interrupts the KVM_RUN of a worker whose event loop was woken
// by another thread; see loop_watch.h.
struct Wake {
  std::atomic<bool> woken = false;
  std::atomic<bool> is_inside = false;
  pid_t tid = 0;
};

// The handler of the kick signals. The handler is async-signal-safe.
void OnKick(int signal);

// The kicks of one vCPU. The thread that runs the vCPU calls Enter and Leave; any thread calls
// Request.
class Kick {
 public:
  explicit Kick(volatile uint8_t* immediate_exit) : immediate_exit_(immediate_exit) {}
  Kick(const Kick&) = delete;
  Kick& operator=(const Kick&) = delete;
  ~Kick() = default;

  // Interrupts the current run; without a current run, the next run ends immediately. Returns 0, or
  // tgkill's -errno. After an error, the current run was not interrupted, and the reasons remain
  // until the end of the run or the next Request.
  int Request(uint32_t reasons);
  // Removes reasons that have not interrupted a run.
  void Withdraw(uint32_t reasons) { reasons_.fetch_and(~reasons); }
  // Removes and returns all reasons.
  uint32_t Take() { return reasons_.exchange(0); }

  // Call Enter before KVM_RUN and Leave after KVM_RUN. After Enter, a request interrupts this
  // thread. Enter returns 0, or -errno if this thread cannot receive the signal; do not call
  // KVM_RUN in this case.
  int Enter(Wake* wake);
  void Leave(Wake* wake);
  // Whether this thread has received a kick signal since the last call of this function.
  static bool TakeSignal();

  bool is_immediate_exit() const { return *immediate_exit_ != 0; }

 private:
  friend void OnKick(int signal);
  void Force();

  volatile uint8_t* immediate_exit_;
  volatile bool is_forced_ = false;  // whether Kick, not JavaScript, has set immediate_exit
  Wake* wake_ = nullptr;
  std::atomic<uint32_t> reasons_ = 0;
  std::atomic<pid_t> tid_ = 0;  // the thread that calls KVM_RUN now or next
};

// Installs the handlers once per process: returns 0, or -errno (EBUSY: no real-time signal is
// free).
int InstallKick();
// The numbers of the two kick signals; a missing signal is 0 (before InstallKick, both are 0).
std::span<const int> KickSignals();
// Sends a kick signal to a thread of this process: returns 0, also if the thread has already ended,
// or -errno.
int SignalThread(pid_t tid);

}  // namespace node_kvm
