// JavaScript's view of a region: ArrayBuffers over mapped memory, and their end. Who owns the
// memory is region.h.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "region.h"

namespace node_kvm {

class Windows {
 public:
  Windows() = default;
  Windows(const Windows&) = delete;
  Windows& operator=(const Windows&) = delete;

  // An ArrayBuffer over [offset, offset + length) of the region, which the caller has checked.
  // An empty value, with a JavaScript error pending, when this runtime has no external buffers.
  Napi::Value Open(Napi::Env env, const std::shared_ptr<Region>& region, size_t offset,
                   size_t length);

  // Takes the memory away from JavaScript: every view becomes empty. A buffer that was moved
  // elsewhere with ArrayBuffer.prototype.transfer() cannot be found again; it keeps the region
  // mapped until it is collected, so that it never shows freed memory.
  void DetachAll(Napi::Env env);

 private:
  struct Window {
    Napi::Reference<Napi::Value> buffer;
    std::shared_ptr<std::shared_ptr<Region>> keeps;
  };
  std::vector<Window> windows_;
};

}  // namespace node_kvm
