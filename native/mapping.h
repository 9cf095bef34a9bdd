// Guest memory as JavaScript holds it: a length and windows onto it, never an address.
#pragma once

#include <napi.h>

#include <memory>

#include "window.h"
#include "wrap.h"

namespace node_kvm {

class Mapping : public Wrapped<Mapping, std::shared_ptr<Region>> {
 public:
  static Napi::Function Define(Napi::Env env);
  // mapAnonymous(length): Mapping, or -errno.
  static Napi::Value Map(const Napi::CallbackInfo& info);

  explicit Mapping(const Napi::CallbackInfo& info) : Wrapped(info) {}

  // Null once closed.
  const std::shared_ptr<Region>& region() const { return state_; }

 private:
  Napi::Value Window(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  Windows windows_;
};

}  // namespace node_kvm
