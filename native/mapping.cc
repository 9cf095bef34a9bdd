#include "mapping.h"

#include <cerrno>
#include <string>

namespace node_kvm {

namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

// A JavaScript number that is a whole, non-negative size; false leaves `size` alone.
bool ReadSize(const Napi::Value& value, size_t* size) {
  if (!value.IsNumber()) return false;
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= kMaxSafeInteger)) return false;
  *size = static_cast<size_t>(number);
  return static_cast<double>(*size) == number;
}

}  // namespace

Napi::Function Mapping::Define(Napi::Env env) {
  return DefineClass(
      env, "Mapping",
      {InstanceMethod<&Mapping::Window>("window"), InstanceMethod<&Mapping::Close>("close")});
}

Napi::Value Mapping::Map(const Napi::CallbackInfo& info) {
  size_t length = 0;
  if (!ReadSize(info[0], &length)) return ThrowTypeError(info.Env(), "length: expected a size");
  std::shared_ptr<Region> region = Region::Anonymous(length);
  if (region == nullptr) return Napi::Number::New(info.Env(), -errno);
  return Create(info.Env().GetInstanceData<Addon>()->mapping_class, std::move(region));
}

Napi::Value Mapping::Window(const Napi::CallbackInfo& info) {
  size_t offset = 0;
  size_t length = 0;
  if (!ReadSize(info[0], &offset) || !ReadSize(info[1], &length)) {
    return ThrowTypeError(info.Env(), "window: expected an offset and a length");
  }
  if (state_ == nullptr) return ThrowTypeError(info.Env(), "window: the mapping is closed");
  if (length == 0 || length > state_->size() || offset > state_->size() - length) {
    return ThrowRangeError(info.Env(), "window: " + std::to_string(length) + " bytes at " +
                                           std::to_string(offset) + " are not inside " +
                                           std::to_string(state_->size()) + " bytes");
  }
  if (length > Windows::kMaxLength) {
    return ThrowRangeError(info.Env(), "window: " + std::to_string(length) +
                                           " bytes are more than one ArrayBuffer shows, " +
                                           std::to_string(Windows::kMaxLength));
  }
  return windows_.Open(info.Env(), state_, offset, length);
}

Napi::Value Mapping::Close(const Napi::CallbackInfo& info) {
  windows_.DetachAll(info.Env());
  state_.reset();  // a memory slot may still hold the region; then it is unmapped with the slot
  return info.Env().Undefined();
}

}  // namespace node_kvm
