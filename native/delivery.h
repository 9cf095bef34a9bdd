// Delivers finished runs of vCPU threads to the event loop of an environment. vcpu_thread.h has the
// threads.
#pragma once

#include <napi.h>
#include <uv.h>

#include <cstdint>
#include <mutex>
#include <set>
#include <vector>

#include "loop_call.h"
#include "refusal.h"

namespace node_kvm {

class VcpuThread;

class Delivery {
 public:
  // Returns the environment's object, created with its first run on a vCPU's thread. The object is
  // deleted with the environment, after it has stopped all threads.
  static Refusal Of(Napi::Env env, Delivery** delivery);

  const LoopCall& call() const { return call_; }

  // Call this function on the environment's thread.
  void Add(VcpuThread* thread) { threads_.insert(thread); }
  void Remove(VcpuThread* thread);
  // A started run prevents the process from exiting until it was delivered.
  void Expect();
  void Delivered();
  // Until this time, by uv_hrtime(), the event loop polls for finished runs instead of sleeping.
  // The loop handles other events in the meantime.
  void PollUntil(uint64_t when);

  // Call this function on any thread; the environment's thread then calls its Deliver.
  void Post(VcpuThread* thread);

 private:
  explicit Delivery(Napi::Env env) : env_(env) {}

  static void OnWake(uv_async_t* async);
  static void OnIdle(uv_idle_t* idle);
  static void OnClosed(uv_handle_t* handle);
  static void OnEnvironmentEnds(napi_async_cleanup_hook_handle hook, void* data);

  void Send();
  void StopPolling();
  void CloseHandles();
  void DeliverAll();

  Napi::Env env_;
  LoopCall call_;
  uv_async_t async_ = {};
  uv_idle_t idle_ = {};  // this handle is active while the event loop polls
  int open_handles_ = 2;
  uint64_t poll_until_ = 0;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  size_t expected_ = 0;
  std::set<VcpuThread*> threads_;
  std::mutex mutex_;
  std::vector<VcpuThread*> done_;
  bool is_polling_ = false;
};

}  // namespace node_kvm
