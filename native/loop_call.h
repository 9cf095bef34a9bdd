// Calls JavaScript from a libuv callback, with no JavaScript on the stack: microtasks run before
// the call returns, and an exception is reported as uncaught.
#pragma once

#include <napi.h>

#include <span>

namespace node_kvm {

class LoopCall {
 public:
  LoopCall() = default;
  LoopCall(const LoopCall&) = delete;
  LoopCall& operator=(const LoopCall&) = delete;
  // The call fails only for a null argument.
  ~LoopCall() {
    if (context_ != nullptr) static_cast<void>(napi_async_destroy(env_, context_));
  }

  // Creates the async context, which some runtimes require for a call from a callback. Returns
  // false on failure.
  bool Open(napi_env env, const char* name) {
    env_ = env;
    napi_value text = nullptr;
    return napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &text) == napi_ok &&
           napi_async_init(env, nullptr, text, &context_) == napi_ok;
  }

  // JavaScript may delete this object, so the object is not used after JavaScript has run.
  void Call(napi_value function, std::span<const napi_value> arguments) const {
    const Napi::Env env = env_;
    napi_value result = nullptr;
    napi_value error = nullptr;
    if (napi_make_callback(env, context_, env.Global(), function, arguments.size(),
                           arguments.data(), &result) == napi_ok) {
      return;
    }
    // If the call has failed without an exception, the environment is shutting down and runs no
    // JavaScript.
    if (!env.IsExceptionPending() || napi_get_and_clear_last_exception(env, &error) != napi_ok) {
      return;
    }
    // This call fails only if the environment is shutting down.
    static_cast<void>(napi_fatal_exception(env, error));
  }

 private:
  napi_env env_ = nullptr;
  napi_async_context context_ = nullptr;
};

}  // namespace node_kvm
