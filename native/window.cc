#include "window.h"

#include "wrap.h"

namespace node_kvm {

// This object exists as long as V8's record of the memory (the BackingStore), also after JavaScript
// has transferred the buffer.
struct Windows::Window {
  napi_ref buffer = nullptr;  // a weak reference to the original ArrayBuffer
  std::shared_ptr<Region> region;
  std::shared_ptr<Range> range;
};

namespace {

using Held = std::shared_ptr<Windows::Window>;

// Returns the original ArrayBuffer; an empty value if it was collected or detached.
napi_value AttachedBuffer(napi_env env, const Windows::Window& window) {
  napi_value buffer = nullptr;
  if (napi_get_reference_value(env, window.buffer, &buffer) != napi_ok || buffer == nullptr) {
    return nullptr;
  }
  bool is_detached = false;
  if (napi_is_detached_arraybuffer(env, buffer, &is_detached) != napi_ok) return nullptr;
  return is_detached ? nullptr : buffer;
}

// This call fails only for a buffer that cannot be detached, and the buffers of windows can be
// detached. The window keeps its range, so a view that was not detached would show empty pages, and
// never freed memory.
void Detach(napi_env env, napi_value buffer) {
  static_cast<void>(napi_detach_arraybuffer(env, buffer));
}

// Returns whether this environment is shutting down, so that JavaScript cannot run any more.
bool IsEnding(napi_env env) {
  const Napi::HandleScope scope(env);
  const Napi::Value any = Napi::Env(env).Undefined();
  bool equal = false;
  return napi_strict_equals(env, any, any, &equal) != napi_ok;
}

// V8 calls this function when it deletes its record of the memory. At the end of an environment,
// Node calls this function early, although a buffer may have been transferred with
// ArrayBuffer.prototype.transfer() and then posted to another thread. This function cannot detect
// this case, so at the end of an environment it frees the memory but never releases the addresses.
void DropWindow(napi_env env, void* /*data*/, void* hint) {
  const std::unique_ptr<Held> held(static_cast<Held*>(hint));
  if (IsEnding(env)) static_cast<void>(new std::shared_ptr<Range>((*held)->range));
  // This call fails only for a null reference.
  if ((*held)->buffer != nullptr) static_cast<void>(napi_delete_reference(env, (*held)->buffer));
}

void DropRange(napi_env /*env*/, void* data, void* /*hint*/) {
  delete static_cast<std::shared_ptr<Range>*>(data);
}

}  // namespace

Napi::Value Windows::Open(Napi::Env env, const std::shared_ptr<Region>& region, size_t offset,
                          size_t length) {
  auto window = std::make_shared<Window>(Window{nullptr, region, region->range()});
  auto held = std::make_unique<Held>(window);
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env, region->data() + offset, length,
                                                              DropWindow, held.get(), &buffer);
  // From now on, DropWindow deletes the window. Node also calls DropWindow if Node itself has
  // failed to create a buffer.
  if (status == napi_ok || status == napi_generic_failure) {
    static_cast<void>(held.release());  // NOLINT(bugprone-unused-return-value)
  }
  if (status != napi_ok) {
    ThrowUnlessPending(env,
                       "this JavaScript runtime cannot show mapped memory (no external buffers)");
    return {};
  }
  // A job that received a view keeps the ArrayBuffer, and therefore also the range, until the job
  // is done.
  auto range = std::make_unique<std::shared_ptr<Range>>(window->range);
  if (napi_create_reference(env, buffer, 0, &window->buffer) != napi_ok ||
      napi_add_finalizer(env, buffer, range.get(), DropRange, nullptr, nullptr) != napi_ok) {
    Detach(env, buffer);
    ThrowUnlessPending(env, "the window could not be made");
    return {};
  }
  static_cast<void>(range.release());  // NOLINT(bugprone-unused-return-value): DropRange deletes it
  if (windows_.size() == windows_.capacity()) {
    std::erase_if(windows_, [](const auto& old) { return old.expired(); });
  }
  windows_.push_back(window);
  region->Shown(length);
  return {env, buffer};
}

void Windows::DetachAll(Napi::Env env) {
  for (const std::weak_ptr<Window>& weak : windows_) {
    const Held window = weak.lock();
    if (window == nullptr) continue;
    const napi_value buffer = AttachedBuffer(env, *window);
    if (buffer != nullptr) Detach(env, buffer);
    window->region.reset();
  }
  windows_.clear();
}

}  // namespace node_kvm
