#include "vcpu_object.h"

#include <cerrno>
#include <utility>
#include <vector>

#include "value.h"
#include "wrap.h"

namespace node_kvm {

namespace {

// What each of the functions holds: they outlive any object that JavaScript has.
struct Bound {
  std::shared_ptr<VcpuThread> thread;
  std::shared_ptr<Region> ring;  // of setFilter
};

// Bound by the function's own data: no property of `this` is looked up, which would cost a tenth of
// an exit.
Bound& BoundOf(napi_env env, napi_callback_info info, size_t* count, napi_value* arguments) {
  void* data = nullptr;
  napi_get_cb_info(env, info, count, arguments, nullptr, &data);
  return *static_cast<Bound*>(data);
}

napi_value Integer(napi_env env, int number) {
  napi_value value = nullptr;
  napi_create_int32(env, number, &value);
  return value;
}

napi_value Run(napi_env env, napi_callback_info info) {
  const std::optional<int> result = BoundOf(env, info, nullptr, nullptr).thread->RunHere();
  return result.has_value() ? Integer(env, *result) : nullptr;
}

napi_value Start(napi_env env, napi_callback_info info) {
  return Integer(env, BoundOf(env, info, nullptr, nullptr).thread->Start());
}

napi_value KickRun(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = nullptr;
  VcpuThread& thread = *BoundOf(env, info, &count, &argument).thread;
  const bool is_pause = count == 1 && Napi::Value(env, argument).ToBoolean();
  if (thread.is_running()) thread.run().kick().Request(is_pause ? kPause : kAbort);
  return nullptr;
}

napi_value SetFilter(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = nullptr;
  Bound& bound = BoundOf(env, info, &count, &argument);
  if (bound.thread->is_running()) return Integer(env, -EBUSY);
  std::span<uint8_t> bytes;
  std::optional<std::vector<FilterRule>> rules;
  if (count == 1 && ReadBytes({env, argument}, &bytes)) rules = ExitFilter::Read(bytes);
  if (!rules.has_value()) return ThrowTypeError(env, "setFilter: expected whole rules");
  bound.thread->run().SetFilter(
      rules->empty() ? nullptr
                     : std::make_unique<ExitFilter>(std::move(*rules), WriteRing(bound.ring)));
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

Napi::Value MakeVcpuObject(Napi::Env env, std::shared_ptr<VcpuThread> thread,
                           const Napi::Value& bytes, Windows& windows) {
  const std::shared_ptr<Region> ring = Region::Map(WriteRing::kBytes, Backing{});
  if (ring == nullptr) return Napi::Number::New(env, -errno);
  const Napi::Value ring_bytes = windows.Open(env, ring, 0, ring->size());
  if (ring_bytes.IsEmpty()) return env.Undefined();
  Napi::Object object = Napi::Object::New(env);
  object.Set("bytes", bytes);
  object.Set("ring", ring_bytes);
  object.Set("token", Napi::BigInt::New(env, thread->run().token()));
  const Bound bound = {std::move(thread), ring};
  Bind(object, "run", Run, bound);
  Bind(object, "start", Start, bound);
  Bind(object, "kick", KickRun, bound);
  Bind(object, "setFilter", SetFilter, bound);
  return object;
}

Napi::Value KickVcpu(const Napi::CallbackInfo& info) {
  uint64_t token = 0;
  if (!ReadU64(info[0], &token)) return ThrowTypeError(info.Env(), "token: expected a bigint");
  return Napi::Boolean::New(info.Env(), VcpuRun::KickByToken(token));
}

}  // namespace node_kvm
