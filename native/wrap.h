// Additions to node-addon-api: classes that only native code can construct, and type tags.
// napi_unwrap does not check its object, so every argument is checked by its tag.
#pragma once

#include <napi.h>
#include <sys/random.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "external_memory.h"
#include "guarded.h"
#include "loop_watch.h"

namespace node_kvm {

class Delivery;

// The state of one environment (main thread or worker). In this addon, only the tags are static.
struct Addon {
  explicit Addon(napi_env env)
      : external_memory(std::make_shared<ExternalMemory>([env](int64_t bytes) {
          int64_t total = 0;
          return napi_adjust_external_memory(env, bytes, &total) == napi_ok;
        })) {}
  Addon(const Addon&) = delete;
  Addon& operator=(const Addon&) = delete;
  ~Addon() { external_memory->EndEnvironment(); }

  Napi::FunctionReference fd_class;
  Napi::FunctionReference host_file_class;
  Napi::FunctionReference mapping_class;
  GuardedCopies copies;
  std::shared_ptr<ExternalMemory> external_memory;
  Delivery* delivery = nullptr;           // set after the first run on a vCPU's own thread
  std::unique_ptr<LoopWatch> loop_watch;  // set in a worker that has created a vCPU
};

// Each load of the addon uses a random tag, so an object of another copy of this addon has another
// tag.
template <class T>
const napi_type_tag& TagOf() {
  static const napi_type_tag tag = [] {
    napi_type_tag random = {};
    // If the system call is missing or fails early at boot, only the address of the addon makes the
    // tag different.
    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
      random.lower = reinterpret_cast<uintptr_t>(&TagOf<T>);
    }
    return random;
  }();
  return tag;
}

// Throws an error, unless an exception is already pending.
inline Napi::Value ThrowTypeError(Napi::Env env, const std::string& message) {
  if (env.IsExceptionPending()) return env.Undefined();
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

inline Napi::Value ThrowRangeError(Napi::Env env, const std::string& message) {
  if (env.IsExceptionPending()) return env.Undefined();
  Napi::RangeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

// Throws an error for a failed Node-API call. An exception of this call may already be pending.
inline Napi::Value ThrowUnlessPending(Napi::Env env, const std::string& message) {
  if (!env.IsExceptionPending()) Napi::Error::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

template <class T>
T* UnwrapChecked(const Napi::Value& value) {
  if (!value.IsObject()) return nullptr;
  const auto object = value.As<Napi::Object>();
  bool is_ours = false;
  if (napi_check_object_type_tag(object.Env(), object, &TagOf<T>(), &is_ours) != napi_ok) {
    return nullptr;
  }
  return is_ours ? T::Unwrap(object) : nullptr;
}

// A class whose constructor is visible to JavaScript but cannot be used, because only Create
// provides the state that the constructor takes.
template <class T, class State>
class Wrapped : public Napi::ObjectWrap<T> {
 public:
  static Napi::Value Create(Napi::FunctionReference& constructor, State state) {
    pending_ = &state;
    const Napi::Value object = constructor.New({});
    pending_ = nullptr;
    return object;
  }

 protected:
  State state_ = {};

 private:
  friend T;
  explicit Wrapped(const Napi::CallbackInfo& info) : Napi::ObjectWrap<T>(info) {
    if (pending_ == nullptr) {
      ThrowTypeError(info.Env(), "Illegal constructor");
      return;
    }
    State* const state = std::exchange(pending_, nullptr);
    // The object is empty if worker.terminate() was called before the object took the state. The
    // object's finalizer then never runs, so Create deletes the state.
    if (this->IsEmpty()) return;
    if (napi_type_tag_object(info.Env(), info.This(), &TagOf<T>()) != napi_ok) {
      ThrowUnlessPending(info.Env(), "an object could not be tagged");
      return;
    }
    state_ = std::move(*state);
  }

  static inline thread_local State* pending_ = nullptr;
};

}  // namespace node_kvm
