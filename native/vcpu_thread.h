// Runs a vCPU for JavaScript, on the calling thread or on the vCPU's own thread. vcpu_run.h
// implements a single run; delivery.h delivers the end of a run to the event loop.
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
  // Use this class on the environment's thread; only Work runs on the vCPU's thread.
  VcpuThread(Napi::Env env, std::shared_ptr<Descriptor> descriptor, std::shared_ptr<Region> region,
             LoopWatch* watch);
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  ~VcpuThread();

  // `done` is called with the result of each started run. While no run is active, this class has
  // only a weak reference to the function, so JavaScript must keep it.
  void SetDone(const Napi::Function& done) { done_ = Napi::Weak(done); }

  // Calls KVM_RUN on the calling thread: returns its result, or -EBUSY while the vCPU runs on its
  // own thread. Returns an empty value if the environment is shutting down; then call no other
  // function.
  std::optional<int> RunHere();
  // Calls KVM_RUN on the vCPU's own thread, and calls `done` with the result.
  Refusal Start();
  bool is_running() const { return is_running_; }
  VcpuRun& run() { return run_; }

  // Requests that the thread ends, without waiting for its end. To end several threads, call this
  // function for each thread before the first Close.
  void RequestStop();
  // Ends the current run and the thread, and releases all resources. A started run is still
  // delivered, with the result EINTR if it was interrupted.
  void Close();

  void Abandon();  // for Delivery: after this call, no run is delivered
  void Deliver();  // for Delivery: calls `done` with the result of the ended run

 private:
  static void* Main(void* self);
  void Work();
  void Await();
  void Post();
  void Stop();

  Napi::Env env_;
  VcpuRun run_;
  bool is_running_ = false;  // whether the end of a started run was not yet delivered
  LoopWatch* watch_;         // the pointer is null on the main thread
  Delivery* delivery_ = nullptr;
  Napi::FunctionReference done_;
  bool has_thread_ = false;
  pthread_t thread_ = {};
  SpinWait for_end_;      // the wait of the environment's thread for the end of a run
  SpinWait for_request_;  // the wait of the vCPU's thread for the next run
  // The CPUs on which the environment's thread and the vCPU's thread ran last.
  std::atomic<int> loop_cpu_ = -1;
  std::atomic<int> thread_cpu_ = -1;
  sem_t wanted_ = {};
  std::atomic<bool> is_asleep_ = false;  // whether the vCPU's thread must be woken for a new run
  std::atomic<bool> is_wanted_ = false;
  std::atomic<bool> is_stopping_ = false;
  std::atomic<int> result_ = 0;
};

}  // namespace node_kvm
