// Brings what vCPU threads have finished to the event loop of an environment. Where a thread comes
// from is vcpu_thread.h.
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
  // One for each environment, made with its first run beside the event loop. It ends with the
  // environment by itself, and stops all threads before.
  static Refusal Of(Napi::Env env, Delivery** delivery);

  const LoopCall& call() const { return call_; }

  // From the environment's thread.
  void Add(VcpuThread* thread) { threads_.insert(thread); }
  void Remove(VcpuThread* thread);
  // A run that was started keeps the process alive until it was delivered.
  void Expect();
  void Delivered();
  // Until then, by uv_hrtime(), the loop does not sleep, and looks itself. It serves all else
  // meanwhile.
  void LookUntil(uint64_t when);

  // From any thread; the environment's thread then calls its Deliver.
  void Post(VcpuThread* thread);

 private:
  explicit Delivery(Napi::Env env) : env_(env) {}

  static void OnWake(uv_async_t* async);
  static void OnIdle(uv_idle_t* idle);
  static void OnClosed(uv_handle_t* handle);
  static void OnEnvironmentEnds(napi_async_cleanup_hook_handle hook, void* data);

  void Send();
  void StopLooking();
  void CloseHandles();
  void DeliverAll();

  Napi::Env env_;
  LoopCall call_;
  uv_async_t async_ = {};
  uv_idle_t idle_ = {};  // active while the loop looks
  int open_handles_ = 2;
  uint64_t look_until_ = 0;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  size_t expected_ = 0;
  std::set<VcpuThread*> threads_;
  std::mutex mutex_;
  std::vector<VcpuThread*> done_;
  bool is_looking_ = false;
};

}  // namespace node_kvm
