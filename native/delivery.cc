#include "delivery.h"

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

void Delivery::Post(VcpuThread* thread) {
  bool is_first = false;
  {
    const std::lock_guard lock(mutex_);
    done_.push_back(thread);
    is_first = done_.size() == 1;
  }
  // Not under the lock: the loop wakes up at once, on this CPU perhaps, and takes it. The handle is
  // still there, for threads end before it is closed.
  if (is_first) uv_async_send(&async_);
}

// One at a time: JavaScript runs in each, and may close the next one's vCPU.
void Delivery::OnWake(uv_async_t* async) {
  auto* delivery = static_cast<Delivery*>(async->data);
  const Napi::HandleScope scope(delivery->env_);
  for (;;) {
    VcpuThread* thread = nullptr;
    {
      const std::lock_guard lock(delivery->mutex_);
      if (delivery->done_.empty()) return;
      thread = delivery->done_.front();
      delivery->done_.erase(delivery->done_.begin());
    }
    thread->Deliver();
  }
}

void Delivery::OnEnvironmentEnds(napi_async_cleanup_hook_handle /*hook*/, void* data) {
  auto* delivery = static_cast<Delivery*>(data);
  for (VcpuThread* thread : delivery->threads_) thread->Abandon();
  delivery->threads_.clear();
  delivery->done_.clear();
  delivery->env_.GetInstanceData<Addon>()->delivery = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&delivery->async_), [](uv_handle_t* handle) {
    auto* closed = static_cast<Delivery*>(handle->data);
    napi_remove_async_cleanup_hook(closed->hook_);
    delete closed;
  });
}

}  // namespace node_kvm
