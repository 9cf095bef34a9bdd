#include "vcpu_object.h"

#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "mapping.h"
#include "refusal.h"
#include "value.h"
#include "wrap.h"

namespace node_kvm {

namespace {

// The data that each bound function owns, because a function can outlive all other JavaScript
// objects of the vCPU.
using Bound = std::shared_ptr<VcpuThread>;

// The function gets the vCPU from its data, because a property lookup on `this` would cost a tenth
// of an exit.
VcpuThread& ThreadOf(napi_env env, napi_callback_info info, size_t* count = nullptr,
                     napi_value* arguments = nullptr) {
  void* data = nullptr;
  // The function cannot work without its data; this call fails only for a null argument.
  if (napi_get_cb_info(env, info, count, arguments, nullptr, &data) != napi_ok) {
    Napi::Error::Fatal("node-kvm", "napi_get_cb_info failed");
  }
  return *static_cast<VcpuThread*>(data);
}

napi_value Integer(napi_env env, int number) {
  napi_value value = nullptr;
  return napi_create_int32(env, number, &value) == napi_ok ? value : nullptr;
}

// This function is marked as hot, like all code on the path to KVM_RUN. Hot functions are adjacent
// in memory, which is faster because the caches are cold after an exit.
[[gnu::hot]] napi_value Run(napi_env env, napi_callback_info info) {
  const std::optional<int> result = ThreadOf(env, info).RunHere();
  return result.has_value() ? Integer(env, *result) : nullptr;
}

napi_value Start(napi_env env, napi_callback_info info) {
  const Refusal refusal = ThreadOf(env, info).Start();
  return refusal ? static_cast<napi_value>(ToValue(env, refusal)) : Integer(env, 0);
}

napi_value KickRun(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value is_pause = nullptr;
  VcpuThread& thread = ThreadOf(env, info, &count, &is_pause);
  const Napi::Value given(env, is_pause);
  const Reason reason = given.IsBoolean() && given.As<Napi::Boolean>() ? kPause : kAbort;
  return Integer(env, thread.is_running() ? thread.run().kick().Request(reason) : 0);
}

napi_value History(napi_env env, napi_callback_info info) {
  const VcpuRun& run = ThreadOf(env, info).run();
  return Integer(env,
                 (run.has_run() ? 1 : 0) | (run.has_entered() ? 2 : 0) | (run.is_stray() ? 4 : 0));
}

napi_value SetFilter(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2] = {};
  VcpuThread& thread = ThreadOf(env, info, &count, arguments);
  if (thread.is_running()) return Integer(env, -EBUSY);
  std::span<uint8_t> bytes;
  const auto* ring = UnwrapChecked<Mapping>({env, arguments[1]});
  if (!ReadBytes({env, arguments[0]}, &bytes) || bytes.size() % sizeof(FilterRule) != 0 ||
      ring == nullptr || ring->region() == nullptr || ring->region()->size() < WriteRing::kBytes) {
    return ThrowTypeError(env, "setFilter: expected whole rules, and memory for the ring");
  }
  thread.run().SetFilter(bytes.empty() ? nullptr
                                       : std::make_unique<ExitFilter>(ExitFilter::Read(bytes),
                                                                      WriteRing(ring->region())));
  return Integer(env, 0);
}

// Returns false on failure; an exception may be pending.
bool Bind(Napi::Object object, const char* name, napi_callback callback, const Bound& bound) {
  const napi_env env = object.Env();
  auto data = std::make_unique<Bound>(bound);
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, bound.get(), &function) !=
          napi_ok ||
      napi_add_finalizer(
          env, function, data.get(),
          [](napi_env, void* held, void*) { delete static_cast<Bound*>(held); }, nullptr,
          nullptr) != napi_ok) {
    return false;
  }
  static_cast<void>(data.release());  // NOLINT(bugprone-unused-return-value): the finalizer owns it
  return DefineOwn(env, object, name, function);
}

}  // namespace

Napi::Value MakeVcpuObject(Napi::Env env, const std::shared_ptr<VcpuThread>& thread,
                           const Napi::Value& bytes) {
  const Napi::Object object = Napi::Object::New(env);
  const bool is_made =
      !object.IsEmpty() && DefineOwn(env, object, "bytes", bytes) &&
      DefineOwn(env, object, "token", Napi::BigInt::New(env, thread->run().token())) &&
      Bind(object, "run", Run, thread) && Bind(object, "start", Start, thread) &&
      Bind(object, "kick", KickRun, thread) && Bind(object, "history", History, thread) &&
      Bind(object, "setFilter", SetFilter, thread);
  if (!is_made) return ThrowUnlessPending(env, "a vCPU's functions could not be made");
  return object;
}

Napi::Value KickVcpu(const Napi::CallbackInfo& info) {
  uint64_t token = 0;
  if (!ReadU64(info[0], &token)) return ThrowTypeError(info.Env(), "token: expected a bigint");
  int error = 0;
  if (!VcpuRun::KickByToken(token, &error)) return Napi::Boolean::New(info.Env(), false);
  if (error != 0) return ToValue(info.Env(), {"tgkill", error});
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace node_kvm
