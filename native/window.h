// JavaScript's views of a region: ArrayBuffers over mapped memory, and how they are detached.
// region.h has the owner of the memory.
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

  // Creates an ArrayBuffer over [offset, offset + length) of the region, which the caller has
  // checked. Returns an empty value, with a JavaScript error pending, if this runtime has no
  // external buffers.
  Napi::Value Open(Napi::Env env, const std::shared_ptr<Region>& region, size_t offset,
                   size_t length);

  // Detaches the memory from JavaScript: every view becomes empty. A buffer that was transferred
  // with ArrayBuffer.prototype.transfer() cannot be detached; after the region was destroyed, it
  // shows empty pages and never freed memory.
  void DetachAll(Napi::Env env);

  struct Window;

 private:
  std::vector<std::weak_ptr<Window>> windows_;
};

}  // namespace node_kvm
