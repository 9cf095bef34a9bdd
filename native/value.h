// Converts JavaScript's integers and bytes to C++; returns false for other values.
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>

namespace node_kvm {

inline bool ReadU32(const Napi::Value& value, uint32_t* out) {
  if (!value.IsNumber()) return false;
  *out = value.As<Napi::Number>().Uint32Value();
  return static_cast<double>(*out) == value.As<Napi::Number>().DoubleValue();
}

inline bool ReadU64(const Napi::Value& value, uint64_t* out) {
  if (!value.IsBigInt()) return false;
  bool lossless = false;
  *out = value.As<Napi::BigInt>().Uint64Value(&lossless);
  return lossless;
}

// Reads an own property; the value is undefined if only the prototype has the property. Returns
// false if a getter or a proxy has thrown an exception, which is then pending.
inline bool GetOwn(const Napi::Object& object, const char* name, Napi::Value* out) {
  const Napi::Env env = object.Env();
  *out = env.Undefined();
  napi_value key = nullptr;
  bool is_own = false;
  if (napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &key) != napi_ok ||
      napi_has_own_property(env, object, key, &is_own) != napi_ok) {
    return false;
  }
  if (!is_own) return true;
  napi_value value = nullptr;
  if (napi_get_property(env, object, key, &value) != napi_ok) return false;
  *out = {env, value};
  return true;
}

// Reads the bytes of a Uint8Array. Rejects memory that another thread could change or free during
// the call (SharedArrayBuffer).
inline bool ReadBytes(const Napi::Value& value, std::span<uint8_t>* out) {
  if (!value.IsTypedArray()) return false;
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, &buffer, nullptr) !=
      napi_ok) {
    return false;
  }
  if (type != napi_uint8_array || !Napi::Value(value.Env(), buffer).IsArrayBuffer()) return false;
  *out = {static_cast<uint8_t*>(data), data == nullptr ? 0 : length};
  return true;
}

}  // namespace node_kvm
