#include "delivery.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "vcpu_thread.h"
#include "wrap.h"

namespace node_kvm {

Refusal Delivery::Of(Napi::Env env, Delivery** delivery) {
  auto* addon = env.GetInstanceData<Addon>();
  *delivery = addon->delivery;
  if (addon->delivery != nullptr) return {};
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return {"napi_get_uv_event_loop", -ENOTSUP};
  auto made = std::unique_ptr<Delivery>(new Delivery(env));
  if (!made->call_.Open(env, "node-kvm:run")) return {"napi_async_init", -ENOMEM};
  made->async_.data = made.get();
  const int error = uv_async_init(loop, &made->async_, OnWake);  // libuv's error codes are -errno
  if (error != 0) return {"uv_async_init", error};
  uv_unref(reinterpret_cast<uv_handle_t*>(&made->async_));
  made->idle_.data = made.get();
  static_cast<void>(uv_idle_init(loop, &made->idle_));  // this call cannot fail
  uv_unref(reinterpret_cast<uv_handle_t*>(&made->idle_));
  // From here on, the libuv handles in this object own the object: OnClosed deletes the object.
  Delivery* const owned = made.release();
  if (napi_add_async_cleanup_hook(env, OnEnvironmentEnds, owned, &owned->hook_) != napi_ok) {
    owned->CloseHandles();
    return {"napi_add_async_cleanup_hook", -ENOMEM};
  }
  addon->delivery = owned;
  *delivery = owned;
  return {};
}

void Delivery::Remove(VcpuThread* thread) {
  threads_.erase(thread);
  const std::lock_guard lock(mutex_);
  std::erase(done_, thread);
}

void Delivery::Expect() {
  if (expected_++ == 0) uv_ref(reinterpret_cast<uv_handle_t*>(&async_));
}

void Delivery::Delivered() {
  if (--expected_ == 0) uv_unref(reinterpret_cast<uv_handle_t*>(&async_));
}

void Delivery::PollUntil(uint64_t when) {
  poll_until_ = std::max(poll_until_, when);
  if (uv_is_active(reinterpret_cast<uv_handle_t*>(&idle_)) != 0) return;
  static_cast<void>(uv_idle_start(&idle_, OnIdle));  // this call fails only if the callback is null
  const std::lock_guard lock(mutex_);
  is_polling_ = true;
}

// The caller delivers the runs that were posted before; a later post wakes the event loop.
void Delivery::StopPolling() {
  static_cast<void>(uv_idle_stop(&idle_));  // this call cannot fail
  const std::lock_guard lock(mutex_);
  is_polling_ = false;
}

void Delivery::Post(VcpuThread* thread) {
  bool is_to_wake = false;
  {
    const std::lock_guard lock(mutex_);
    done_.push_back(thread);
    is_to_wake = done_.size() == 1 && !is_polling_;
  }
  // The lock is released before this call, because the event loop wakes immediately, perhaps on
  // this CPU, and takes the lock. The handle still exists, because all threads end before the
  // handle is closed.
  if (is_to_wake) Send();
}

// This call fails only for a handle of another kind.
void Delivery::Send() { static_cast<void>(uv_async_send(&async_)); }

void Delivery::OnWake(uv_async_t* async) { static_cast<Delivery*>(async->data)->DeliverAll(); }

void Delivery::OnIdle(uv_idle_t* idle) {
  auto* delivery = static_cast<Delivery*>(idle->data);
  delivery->DeliverAll();
  if (delivery->expected_ > 0 && uv_hrtime() < delivery->poll_until_) return;
  delivery->StopPolling();
  delivery->DeliverAll();
}

// Delivers one run at a time, because JavaScript runs in each delivery and may close the next run's
// vCPU. Runs that end in the meantime are delivered in the event loop's next turn, because vCPUs
// that exit constantly would otherwise block the loop.
void Delivery::DeliverAll() {
  const Napi::HandleScope scope(env_);
  std::unique_lock lock(mutex_);
  for (size_t count = done_.size(); count > 0 && !done_.empty(); --count) {
    VcpuThread* thread = done_.front();
    done_.erase(done_.begin());
    lock.unlock();
    thread->Deliver();
    lock.lock();
  }
  const bool is_to_wake = !done_.empty() && !is_polling_;
  lock.unlock();
  if (is_to_wake) Send();
}

void Delivery::OnEnvironmentEnds(napi_async_cleanup_hook_handle /*hook*/, void* data) {
  auto* delivery = static_cast<Delivery*>(data);
  // All threads are requested to stop before the first thread is joined, because a thread that
  // shares its CPU with spinning guests ends only after a time slice of each guest.
  for (VcpuThread* thread : delivery->threads_) thread->RequestStop();
  for (VcpuThread* thread : delivery->threads_) thread->Abandon();
  delivery->threads_.clear();
  delivery->done_.clear();
  delivery->env_.GetInstanceData<Addon>()->delivery = nullptr;
  delivery->CloseHandles();
}

// The callback of the last closed handle deletes the object, because libuv does not define the
// order in which handles are closed.
void Delivery::CloseHandles() {
  uv_close(reinterpret_cast<uv_handle_t*>(&idle_), OnClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&async_), OnClosed);
}

void Delivery::OnClosed(uv_handle_t* handle) {
  auto* delivery = static_cast<Delivery*>(handle->data);
  if (--delivery->open_handles_ > 0) return;
  // This call fails if the hook is null, which means that no cleanup hook was registered.
  static_cast<void>(napi_remove_async_cleanup_hook(delivery->hook_));
  delete delivery;
}

}  // namespace node_kvm
