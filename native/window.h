// JavaScript's views of a region: ArrayBuffers over mapped memory, and detaching them. The owner of
// the memory is region.h.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "region.h"

namespace node_kvm {

class Windows {
 public:
  // Some Node versions reject longer buffers (Node 20: above 4 GiB).
  static constexpr size_t kMaxLength = size_t{1} << 30;

  Windows() = default;
  Windows(const Windows&) = delete;
  Windows& operator=(const Windows&) = delete;
  ~Windows() = default;

  // An ArrayBuffer over [offset, offset + length) of the region, which the caller has checked. An
  // empty value, with a JavaScript error pending, if this runtime has no external buffers.
  Napi::Value Open(Napi::Env env, const std::shared_ptr<Region>& region, size_t offset,
                   size_t length);

  // Detaches the memory from JavaScript: every view becomes empty. A buffer that was transferred
  // with ArrayBuffer.prototype.transfer() cannot be found; it shows empty pages after the region
  // was destroyed, never freed memory.
  void DetachAll(Napi::Env env);

  struct Window;

 private:
  std::vector<std::weak_ptr<Window>> windows_;
};

}  // namespace node_kvm
