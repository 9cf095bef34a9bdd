#include "vcpu_object.h"

#include <optional>

#include "wrap.h"

namespace node_kvm {

namespace {

// What each of the functions holds: they outlive any object that JavaScript has.
using Bound = std::shared_ptr<VcpuThread>;

// Bound by the function's own data: no property of `this` is looked up, which would cost a tenth of
// an exit.
VcpuThread& ThreadOf(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  return **static_cast<Bound*>(data);
}

napi_value Integer(napi_env env, int number) {
  napi_value value = nullptr;
  napi_create_int32(env, number, &value);
  return value;
}

napi_value Run(napi_env env, napi_callback_info info) {
  const std::optional<int> result = ThreadOf(env, info).RunHere();
  return result.has_value() ? Integer(env, *result) : nullptr;
}

napi_value Start(napi_env env, napi_callback_info info) {
  return Integer(env, ThreadOf(env, info).Start());
}

napi_value KickRun(napi_env env, napi_callback_info info) {
  VcpuThread& thread = ThreadOf(env, info);
  if (thread.is_running()) thread.run().kick().Request(kAbort);
  return nullptr;
}

void Bind(Napi::Object object, const char* name, napi_callback callback, const Bound& bound) {
  const napi_env env = object.Env();
  auto data = std::make_unique<Bound>(bound);
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, data.get(), &function) !=
          napi_ok ||
      napi_add_finalizer(
          env, function, data.get(),
          [](napi_env, void* held, void*) { delete static_cast<Bound*>(held); }, nullptr,
          nullptr) != napi_ok) {
    ThrowTypeError(env, "a function could not be made");
    return;
  }
  static_cast<void>(data.release());  // NOLINT(bugprone-unused-return-value): the finalizer has it
  object.Set(name, Napi::Value(env, function));
}

}  // namespace

Napi::Value MakeVcpuObject(Napi::Env env, const std::shared_ptr<VcpuThread>& thread,
                           const Napi::Value& bytes) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("bytes", bytes);
  Bind(object, "run", Run, thread);
  Bind(object, "start", Start, thread);
  Bind(object, "kick", KickRun, thread);
  return object;
}

}  // namespace node_kvm
