// JavaScript's integers and bytes, as C++ has them; false when the value is another.
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

// The bytes of a Uint8Array. Memory that another thread could change or free under the kernel's
// hands (SharedArrayBuffer) is not taken.
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
