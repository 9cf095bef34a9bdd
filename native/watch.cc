#include "watch.h"

#include <uv.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "loop_call.h"

namespace node_kvm {

struct Watch::Poll {
  uv_poll_t handle = {};
  napi_env env = nullptr;
  LoopCall call;
  napi_async_cleanup_hook_handle hook = nullptr;
  Watch* watch = nullptr;  // the pointer is null while the handle is being closed

  static void OnReadable(uv_poll_t* handle, int status, int events);
  static void OnTeardown(napi_async_cleanup_hook_handle hook, void* data);
  static void OnClosed(uv_handle_t* handle);
};

void Watch::Poll::OnReadable(uv_poll_t* handle, int status, int /*events*/) {
  const auto* poll = static_cast<Poll*>(handle->data);
  // libuv stops polling a descriptor at EPOLLERR. An eventfd with the counter 2^64 - 1 has
  // EPOLLERR, but is still readable; KVM's signals can reach this counter. If libuv cannot continue
  // to poll, `readable` is called a last time and reads the counter.
  if (status < 0) static_cast<void>(uv_poll_start(handle, UV_READABLE, OnReadable));
  const Napi::Env env = poll->env;
  const Napi::HandleScope scope(env);
  poll->call.Call(poll->watch->readable_.Value(), {});
}

// An environment that shuts down runs its event loop until every asynchronous hook is removed, and
// OnClosed removes this hook. The hook ensures that no handle stays in the loop, and that no memory
// is freed that the loop still uses.
void Watch::Poll::OnTeardown(napi_async_cleanup_hook_handle /*hook*/, void* data) {
  const auto* poll = static_cast<Poll*>(data);
  if (poll->watch != nullptr) poll->watch->Close();
}

void Watch::Poll::OnClosed(uv_handle_t* handle) {
  const std::unique_ptr<Poll> poll(static_cast<Poll*>(handle->data));
  // This call fails only for a null argument.
  if (poll->hook != nullptr) static_cast<void>(napi_remove_async_cleanup_hook(poll->hook));
}

int Watch::Start(Napi::Env env, int fd, const Napi::Function& readable) {
  if (!readable_.IsEmpty()) return -EBUSY;
  if (poll_ == nullptr) {
    const int error = Open(env, fd);
    if (error < 0) return error;
  }
  readable_ = Napi::Persistent(readable);
  if (readable_.IsEmpty()) return -ENOMEM;  // an exception is pending
  const int error = uv_poll_start(&poll_->handle, UV_READABLE, Poll::OnReadable);
  if (error != 0) readable_.Reset();
  return error;  // libuv's error codes are -errno
}

int Watch::Open(Napi::Env env, int fd) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return -ENOTSUP;
  auto poll = std::make_unique<Poll>();
  const int error = uv_poll_init(loop, &poll->handle, fd);
  if (error < 0) return error;
  poll->handle.data = poll.get();
  poll->env = env;
  poll->watch = this;
  poll_ = poll.release();
  if (poll_->call.Open(env, "node-kvm:eventfd") &&
      napi_add_async_cleanup_hook(env, Poll::OnTeardown, poll_, &poll_->hook) == napi_ok) {
    return 0;
  }
  Close();
  return -ENOTSUP;
}

void Watch::Stop() {
  readable_.Reset();
  if (poll_ != nullptr) static_cast<void>(uv_poll_stop(&poll_->handle));  // this call cannot fail
}

void Watch::Close() {
  readable_.Reset();
  if (poll_ == nullptr) return;
  poll_->watch = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&std::exchange(poll_, nullptr)->handle), Poll::OnClosed);
}

}  // namespace node_kvm
