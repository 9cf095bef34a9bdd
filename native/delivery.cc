#include "delivery.h"

#include <algorithm>
#include <utility>

#include "vcpu_thread.h"
#include "wrap.h"

namespace node_kvm {

Delivery* Delivery::Of(Napi::Env env) {
  auto* addon = env.GetInstanceData<Addon>();
  if (addon->delivery != nullptr) return addon->delivery;
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return nullptr;
  auto* delivery = new Delivery(env);  // deleted when its handle is closed
  delivery->async_.data = delivery;
  if (uv_async_init(loop, &delivery->async_, OnWake) != 0) {
    delete delivery;
    return nullptr;
  }
  uv_unref(reinterpret_cast<uv_handle_t*>(&delivery->async_));
  delivery->idle_.data = delivery;
  uv_idle_init(loop, &delivery->idle_);
  uv_unref(reinterpret_cast<uv_handle_t*>(&delivery->idle_));
  napi_add_async_cleanup_hook(env, OnEnvironmentEnds, delivery, &delivery->hook_);
  addon->delivery = delivery;
  return delivery;
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

void Delivery::LookUntil(uint64_t when) {
  look_until_ = std::max(look_until_, when);
  if (uv_is_active(reinterpret_cast<uv_handle_t*>(&idle_)) != 0) return;
  uv_idle_start(&idle_, OnIdle);
  const std::lock_guard lock(mutex_);
  is_looking_ = true;
}

// What is posted before is delivered by who calls this; what comes after wakes the loop.
void Delivery::StopLooking() {
  uv_idle_stop(&idle_);
  const std::lock_guard lock(mutex_);
  is_looking_ = false;
}

void Delivery::Post(VcpuThread* thread) {
  bool is_to_wake = false;
  {
    const std::lock_guard lock(mutex_);
    done_.push_back(thread);
    is_to_wake = done_.size() == 1 && !is_looking_;
  }
  // Not under the lock: the loop wakes up at once, on this CPU perhaps, and takes it. The handle is
  // still there, for threads end before it is closed.
  if (is_to_wake) uv_async_send(&async_);
}

void Delivery::OnWake(uv_async_t* async) { static_cast<Delivery*>(async->data)->DeliverAll(); }

void Delivery::OnIdle(uv_idle_t* idle) {
  auto* delivery = static_cast<Delivery*>(idle->data);
  delivery->DeliverAll();
  if (delivery->expected_ > 0 && uv_hrtime() < delivery->look_until_) return;
  delivery->StopLooking();
  delivery->DeliverAll();
}

// One at a time: JavaScript runs in each, and may close the next one's vCPU. What ends meanwhile is
// for the loop's next turn, else vCPUs that exit all the time would have it for themselves.
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
  const bool is_to_wake = !done_.empty() && !is_looking_;
  lock.unlock();
  if (is_to_wake) uv_async_send(&async_);
}

void Delivery::OnEnvironmentEnds(napi_async_cleanup_hook_handle /*hook*/, void* data) {
  auto* delivery = static_cast<Delivery*>(data);
  for (VcpuThread* thread : delivery->threads_) thread->Abandon();
  delivery->threads_.clear();
  delivery->done_.clear();
  delivery->env_.GetInstanceData<Addon>()->delivery = nullptr;
  // The one that is closed last takes all with it: libuv closes in no order that it promises.
  uv_close(reinterpret_cast<uv_handle_t*>(&delivery->idle_), OnClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&delivery->async_), OnClosed);
}

void Delivery::OnClosed(uv_handle_t* handle) {
  auto* delivery = static_cast<Delivery*>(handle->data);
  if (--delivery->open_handles_ > 0) return;
  napi_remove_async_cleanup_hook(delivery->hook_);
  delete delivery;
}

}  // namespace node_kvm
