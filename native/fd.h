// The JavaScript object of one KVM file descriptor: ioctls, memory slots, kvm_run, closing. The
// kernel rejects ioctls that a descriptor does not have (ENOTTY).
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "descriptor.h"
#include "ioctl.h"
#include "vcpu_thread.h"
#include "window.h"
#include "wrap.h"

namespace node_kvm {

class Fd : public Wrapped<Fd, std::shared_ptr<Descriptor>> {
 public:
  static Napi::Function Define(Napi::Env env);
  // open(path) returns an Fd, or -errno. If the file is not /dev/kvm, the result is -ENOTTY.
  static Napi::Value Open(const Napi::CallbackInfo& info);

  // reqXcompGuestPerm(component) calls arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM), and returns 0 or
  // -errno. The function is part of this file because the permission is for KVM's guests, although
  // it applies to the process.
  static Napi::Value ReqXcompGuestPerm(const Napi::CallbackInfo& info);

  explicit Fd(const Napi::CallbackInfo& info) : Wrapped(info) {}

  // -1 once closed.
  int fd() const { return state_->fd(); }

 private:
  // ioctl(request, argument?, pastEnd?, links?) returns the result, a new Fd, -errno, or { call,
  // errno } if another call that the ioctl needs has failed.
  Napi::Value Ioctl(const Napi::CallbackInfo& info);
  // setUserMemoryRegion(slot, flags, guestPhysAddr, memorySize, mapping | null, offset) returns
  // 0 or -errno. With two additional arguments, guestMemfd (Fd | null) and guestMemfdOffset, the
  // method issues KVM_SET_USER_MEMORY_REGION2.
  Napi::Value SetUserMemoryRegion(const Napi::CallbackInfo& info);
  // mapRun(done, probe?) returns the object of vcpu_object.h, or { call, errno }. `probe` is
  // required in a worker.
  Napi::Value MapRun(const Napi::CallbackInfo& info);
  // mapDirtyRing() returns an ArrayBuffer, or -errno.
  Napi::Value MapDirtyRing(const Napi::CallbackInfo& info);
  // mapMemfd() returns a Mapping, or -errno.
  Napi::Value MapMemfd(const Napi::CallbackInfo& info);
  // fallocate(mode, offset, length) returns 0 or -errno.
  Napi::Value Fallocate(const Napi::CallbackInfo& info);
  // read(position, length) returns a Uint8Array, or -errno.
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  Napi::Value CallWithStruct(const Napi::CallbackInfo& info, const IoctlShape& shape);
  Napi::Value Answer(Napi::Env env, uint32_t request, bool returns_fd, int64_t result);
  void RememberCap(std::span<const uint8_t> argument);
  // Adopts a descriptor that an ioctl has created. This function is called for every descriptor
  // that an ioctl creates.
  Napi::Value Adopt(Napi::Env env, uint32_t request, int fd);
  static Napi::Value CreateOf(Napi::Env env, Descriptor descriptor);

  Windows windows_;
  std::vector<std::weak_ptr<VcpuThread>> threads_;
};

}  // namespace node_kvm
