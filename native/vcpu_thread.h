// Runs a vCPU for JavaScript, on the calling thread or on the vCPU's own thread. One run is
// vcpu_run.h; delivering its end to the event loop is delivery.h.
#pragma once

#include <napi.h>
#include <pthread.h>
#include <semaphore.h>

#include <atomic>
#include <memory>
#include <optional>

#include "refusal.h"
#include "spin_wait.h"
#include "vcpu_run.h"

namespace node_kvm {

class Delivery;
class LoopWatch;

class VcpuThread {
 public:
  // Use it on the environment's thread; only Work runs on the other one.
  VcpuThread(Napi::Env env, std::shared_ptr<Descriptor> descriptor, std::shared_ptr<Region> region,
             LoopWatch* watch);
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  ~VcpuThread();

  // Called with the result of each started run. The reference is weak while nothing runs;
  // JavaScript keeps the function.
  void SetDone(const Napi::Function& done) { done_ = Napi::Weak(done); }

  // Calls KVM_RUN on the calling thread: its result, or -EBUSY while it runs on its own thread.
  // Empty if the environment is shutting down; then call nothing more.
  std::optional<int> RunHere();
  // Calls KVM_RUN on its own thread and calls `done` with the result.
  Refusal Start();
  bool is_running() const { return is_running_; }
  VcpuRun& run() { return run_; }

  // Requests the thread to end, without waiting for it. To end several threads, request all of them
  // first.
  void RequestStop();
  // Ends the current run and the thread, and releases all resources. A started run is still
  // delivered, as EINTR if it was interrupted.
  void Close();

  void Abandon();  // for Delivery, which is shutting down: nothing is delivered after it
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
  LoopWatch* watch_;         // null on the main thread, which cannot be terminated
  Delivery* delivery_ = nullptr;
  Napi::FunctionReference done_;
  bool has_thread_ = false;
  pthread_t thread_ = {};
  SpinWait for_end_;      // of the environment's thread, which waits for the end of a run
  SpinWait for_request_;  // of the vCPU's thread, which waits for the next run
  // The CPUs on which they ran last.
  std::atomic<int> loop_cpu_ = -1;
  std::atomic<int> thread_cpu_ = -1;
  sem_t wanted_ = {};
  std::atomic<bool> is_asleep_ = false;  // the thread must be woken for a new run
  std::atomic<bool> is_wanted_ = false;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<int> result_ = 0;
};

}  // namespace node_kvm
