// The JavaScript object of guest memory. JavaScript gets the length and windows of the memory, but
// no address. The function that creates the object determines the kind of memory.
#pragma once

#include <napi.h>

#include <memory>

#include "window.h"
#include "wrap.h"

namespace node_kvm {

class Mapping : public Wrapped<Mapping, std::shared_ptr<Region>> {
 public:
  static Napi::Function Define(Napi::Env env);
  // mapAnonymous(length, pageShift?, reserve?) returns a Mapping, or mmap's -errno.
  static Napi::Value MapAnonymous(const Napi::CallbackInfo& info);
  // mapMemfd(length, pageShift?, reserve?) returns a Mapping, or { call, errno }.
  static Napi::Value MapMemfd(const Napi::CallbackInfo& info);
  // mapFile(path, offset, length?) returns a Mapping, or { call, errno }.
  static Napi::Value MapFile(const Napi::CallbackInfo& info);
  // keepBusHandler() installs the SIGBUS handler if another handler has replaced it, and returns 0,
  // or sigaction's -errno.
  static Napi::Value KeepHandler(const Napi::CallbackInfo& info);
  // Installs the SIGBUS handler. Call this function before mapping memory whose pages may become
  // unavailable. Returns false, with a JavaScript error pending, on failure.
  static bool TakeBusErrors(Napi::Env env);

  // Creates a Mapping of the region, and reports its size to V8's garbage collector. `has_pages`
  // means that all pages are already allocated.
  static Napi::Value CreateOf(Napi::Env env, std::shared_ptr<Region> region,
                              bool has_pages = false);

  explicit Mapping(const Napi::CallbackInfo& info) : Wrapped(info) {}

  // The pointer is null after the mapping was closed.
  const std::shared_ptr<Region>& region() const { return state_; }

 private:
  // byteLength() returns the size of the mapping.
  Napi::Value ByteLength(const Napi::CallbackInfo& info);
  // advise(advice) returns 0 or -errno.
  Napi::Value Advise(const Napi::CallbackInfo& info);
  // hasLostPages() returns whether the SIGBUS handler has replaced a page by zeros.
  Napi::Value HasLostPages(const Napi::CallbackInfo& info);
  Napi::Value Window(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  Windows windows_;
};

}  // namespace node_kvm
