// The name and the errno of a failed system call or Node-API call. lib/kvm creates the error from
// it.
#pragma once

#include <napi.h>

#include <cerrno>

namespace node_kvm {

struct Refusal {
  const char* call = nullptr;
  int error = 0;  // -errno

  explicit operator bool() const { return error != 0; }

  // Call this function right after `call` has failed and set errno.
  static Refusal Of(const char* call) { return {call, -errno}; }
};

// Defines an own property. napi_set_property would call a setter of Object.prototype. On failure,
// the function returns false, and an exception may be pending.
inline bool DefineOwn(napi_env env, napi_value object, const char* name, napi_value value) {
  const napi_property_descriptor property = {.utf8name = name,
                                             .name = nullptr,
                                             .method = nullptr,
                                             .getter = nullptr,
                                             .setter = nullptr,
                                             .value = value,
                                             .attributes = napi_default_jsproperty,
                                             .data = nullptr};
  return value != nullptr && napi_define_properties(env, object, 1, &property) == napi_ok;
}

// Returns { call, errno } with a positive errno; an empty value if the environment cannot create
// objects any more.
inline Napi::Value ToValue(Napi::Env env, const Refusal& refusal) {
  napi_value object = nullptr;
  napi_value call = nullptr;
  napi_value error = nullptr;
  if (napi_create_object(env, &object) != napi_ok ||
      napi_create_string_utf8(env, refusal.call, NAPI_AUTO_LENGTH, &call) != napi_ok ||
      napi_create_int32(env, -refusal.error, &error) != napi_ok ||
      !DefineOwn(env, object, "call", call) || !DefineOwn(env, object, "errno", error)) {
    return {};
  }
  return {env, object};
}

}  // namespace node_kvm
