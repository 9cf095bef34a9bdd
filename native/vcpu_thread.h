// A vCPU as JavaScript runs it: here and now, or on a thread of its own beside the event loop. What
// a run is, vcpu_run.h; how its end reaches the event loop, delivery.h.
#pragma once

#include <napi.h>
#include <pthread.h>
#include <semaphore.h>

#include <atomic>
#include <memory>
#include <optional>

#include "patience.h"
#include "refusal.h"
#include "vcpu_run.h"

namespace node_kvm {

class Delivery;
class LoopWatch;

class VcpuThread {
 public:
  // Belongs to the environment's thread; only Work runs on the other.
  VcpuThread(Napi::Env env, std::shared_ptr<Descriptor> descriptor, std::shared_ptr<Region> region,
             LoopWatch* watch);
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  ~VcpuThread();

  // Called with the result of each run that was started. Held weakly while nothing runs: JavaScript
  // keeps it.
  void SetDone(const Napi::Function& done) { done_ = Napi::Weak(done); }

  // KVM_RUN on the calling thread: its result, or -EBUSY when it runs elsewhere. Empty when the
  // environment is to end, with nothing more to be called.
  std::optional<int> RunHere();
  // KVM_RUN on its own thread. Its end is told to `done`.
  Refusal Start();
  bool is_running() const { return is_running_; }
  VcpuRun& run() { return run_; }

  // Asks the thread to end, without waiting for it. Whoever ends several asks all of them first.
  void RequestStop();
  // Ends the run that is under way, the thread, and all that it holds. A run that was started is
  // still delivered, as EINTR if it was cut short.
  void Close();

  void Abandon();  // for Delivery, which ends: nothing is delivered any more
  void Deliver();  // for Delivery: calls `done`

 private:
  static void* Main(void* self);
  void Work();
  void Await();
  void Post();
  void Stop();

  Napi::Env env_;
  VcpuRun run_;
  bool is_running_ = false;  // started, and not delivered
  LoopWatch* watch_;         // null on the main thread, which nobody ends
  Delivery* delivery_ = nullptr;
  Napi::FunctionReference done_;
  bool has_thread_ = false;
  pthread_t thread_ = {};
  Patience for_end_;      // the environment's thread waits for the end of a run,
  Patience for_request_;  // the other one to be asked for a run
  // Where they were last.
  std::atomic<int> loop_cpu_ = -1;
  std::atomic<int> thread_cpu_ = -1;
  sem_t wanted_ = {};
  std::atomic<bool> is_asleep_ = false;  // wants a post when there is something
  std::atomic<bool> is_wanted_ = false;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<int> result_ = 0;
};

}  // namespace node_kvm
