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
  // Returns the environment's Delivery, which is created at the first run on a vCPU's thread. At
  // the end of the environment, the object stops all threads and is then deleted.
  static Refusal Of(Napi::Env env, Delivery** delivery);

  const LoopCall& call() const { return call_; }

  // Call this function on the environment's thread.
  void Add(VcpuThread* thread) { threads_.insert(thread); }
  void Remove(VcpuThread* thread);
  // A started run prevents the process from exiting until the end of the run was delivered.
  void Expect();
  void Delivered();
  // Until this uv_hrtime() time, the event loop polls for finished runs instead of sleeping, and
  // also handles other events.
  void PollUntil(uint64_t when);

  // This function can be called on any thread; the environment's thread then calls Deliver of the
  // vCPU's thread.
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
