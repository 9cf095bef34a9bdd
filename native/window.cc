#include "window.h"

#include <utility>

namespace node_kvm {

namespace {

using Keeps = std::shared_ptr<std::shared_ptr<Region>>;

void DropWindow(napi_env /*env*/, void* /*data*/, void* hint) { delete static_cast<Keeps*>(hint); }

}  // namespace

Napi::Value Windows::Open(Napi::Env env, const std::shared_ptr<Region>& region, size_t offset,
                          size_t length) {
  Keeps keeps = std::make_shared<std::shared_ptr<Region>>(region);
  auto hint = std::make_unique<Keeps>(keeps);
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env, region->data() + offset, length,
                                                              DropWindow, hint.get(), &buffer);
  if (status != napi_ok) {
    Napi::Error::New(env, "this JavaScript runtime cannot show mapped memory (no external buffers)")
        .ThrowAsJavaScriptException();
    return {};
  }
  // DropWindow deletes it now.
  static_cast<void>(hint.release());  // NOLINT(bugprone-unused-return-value)
  const Napi::Value value(env, buffer);
  windows_.push_back({Napi::Reference<Napi::Value>::New(value, 1), std::move(keeps)});
  return value;
}

void Windows::DetachAll(Napi::Env env) {
  for (Window& window : windows_) {
    const napi_value buffer = window.buffer.Value();
    bool detached = false;
    napi_is_detached_arraybuffer(env, buffer, &detached);
    if (!detached && napi_detach_arraybuffer(env, buffer) == napi_ok) window.keeps->reset();
  }
  windows_.clear();
}

}  // namespace node_kvm
