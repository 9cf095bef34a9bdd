// A file that is passed to KVM and has no KVM ioctls: an eventfd, /dev/sev.
#pragma once

#include <napi.h>

#include "external_memory.h"
#include "unique_fd.h"
#include "watch.h"
#include "wrap.h"

namespace node_kvm {

struct OpenHostFile {
  UniqueFd fd;
  bool is_eventfd = false;
  Reported reported;
};

class HostFile : public Wrapped<HostFile, OpenHostFile> {
 public:
  static Napi::Function Define(Napi::Env env);
  // eventfd(initval, flags) returns a HostFile, or -errno. The eventfd is always close-on-exec and
  // non-blocking.
  static Napi::Value Eventfd(const Napi::CallbackInfo& info);
  // openFile(path) returns a HostFile, or -errno.
  static Napi::Value Open(const Napi::CallbackInfo& info);

  // descriptors() returns { limit, own }: RLIMIT_NOFILE, and the number of descriptors that this
  // addon has open in the process.
  static Napi::Value Descriptors(const Napi::CallbackInfo& info);

  explicit HostFile(const Napi::CallbackInfo& info) : Wrapped(info) {}

  // -1 once closed.
  int fd() const { return state_.fd.get(); }

 private:
  // readCounter() returns a bigint, or -errno (EAGAIN: the counter is zero).
  Napi::Value ReadCounter(const Napi::CallbackInfo& info);
  // writeCounter(bigint) returns 0 or -errno.
  Napi::Value WriteCounter(const Napi::CallbackInfo& info);
  // watch(readable) returns 0 or -errno (EINVAL: the file is not an eventfd; EBUSY: the file is
  // already watched). Until unwatch or close, the environment's loop calls readable() while the
  // counter is above zero.
  Napi::Value StartWatch(const Napi::CallbackInfo& info);
  Napi::Value StopWatch(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  Watch watch_;  // this member is destroyed before state_ closes the descriptor
};

}  // namespace node_kvm
