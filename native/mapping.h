// Guest memory as JavaScript holds it: a length and windows onto it, never an address. What backs
// it is chosen once, when it is made.
#pragma once

#include <napi.h>

#include <memory>

#include "window.h"
#include "wrap.h"

namespace node_kvm {

class Mapping : public Wrapped<Mapping, std::shared_ptr<Region>> {
 public:
  static Napi::Function Define(Napi::Env env);
  // mapAnonymous(length, pageShift?, reserve?): Mapping, or mmap's -errno.
  static Napi::Value MapAnonymous(const Napi::CallbackInfo& info);
  // mapMemfd(length, pageShift?, reserve?): Mapping, or { call, errno }.
  static Napi::Value MapMemfd(const Napi::CallbackInfo& info);
  // mapFile(path, offset, length?): Mapping, or { call, errno }.
  static Napi::Value MapFile(const Napi::CallbackInfo& info);
  // keepBusHandler(): takes SIGBUS back, if another handler has it: 0, or sigaction's -errno.
  static Napi::Value KeepHandler(const Napi::CallbackInfo& info);
  // Takes SIGBUS before memory is mapped that may lose pages. False, with a JavaScript error
  // pending, when it cannot be had.
  static bool TakeBusErrors(Napi::Env env);

  // A Mapping of the region, which V8's garbage collector then knows the size of. `has_pages` says
  // whether it takes all its memory from the start.
  static Napi::Value CreateOf(Napi::Env env, std::shared_ptr<Region> region,
                              bool has_pages = false);

  explicit Mapping(const Napi::CallbackInfo& info) : Wrapped(info) {}

  // Null once closed.
  const std::shared_ptr<Region>& region() const { return state_; }

 private:
  // byteLength(): its size.
  Napi::Value ByteLength(const Napi::CallbackInfo& info);
  // advise(advice): 0, or -errno.
  Napi::Value Advise(const Napi::CallbackInfo& info);
  // hasLostPages(): whether zeros took the place of a page.
  Napi::Value HasLostPages(const Napi::CallbackInfo& info);
  Napi::Value Window(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  Windows windows_;
};

}  // namespace node_kvm
