// One KVM file descriptor as JavaScript holds it: the door, memory slots, kvm_run, closing.
// Which ioctl belongs to which kind of descriptor is the kernel's to say (ENOTTY).
#pragma once

#include <napi.h>

#include <map>
#include <memory>

#include "region.h"
#include "unique_fd.h"
#include "window.h"
#include "wrap.h"

namespace node_kvm {

// What the descriptors of one VM share. The kernel keeps a VM alive while any of them is open, and
// a guest may touch its memory for as long, so the regions behind its slots live here: closing
// guest memory early never unmaps what a guest can still reach.
struct VmState {
  size_t run_size = 0;  // KVM_GET_VCPU_MMAP_SIZE
  std::map<uint32_t, std::shared_ptr<Region>> slots;
};

struct Descriptor {
  UniqueFd fd;
  std::shared_ptr<VmState> vm;  // null for /dev/kvm itself
  bool is_vcpu = false;
};

class Fd : public Wrapped<Fd, std::shared_ptr<Descriptor>> {
 public:
  static Napi::Function Define(Napi::Env env);
  // open(path): Fd, or -errno. Anything that is not /dev/kvm is ENOTTY.
  static Napi::Value Open(const Napi::CallbackInfo& info);

  // reqXcompGuestPerm(component): arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM), 0 or -errno. It is here
  // because the permission is for KVM's guests, though it belongs to the process.
  static Napi::Value ReqXcompGuestPerm(const Napi::CallbackInfo& info);

  explicit Fd(const Napi::CallbackInfo& info) : Wrapped(info) {}

 private:
  // ioctl(request, argument?, pastEnd?): result, Fd, or -errno.
  Napi::Value Ioctl(const Napi::CallbackInfo& info);
  // setUserMemoryRegion(slot, flags, guestPhysAddr, memorySize, mapping | null, offset): -errno or
  // 0.
  Napi::Value SetUserMemoryRegion(const Napi::CallbackInfo& info);
  // enableCap(struct kvm_enable_cap): 0 or -errno.
  Napi::Value EnableCap(const Napi::CallbackInfo& info);
  // mapRun(): { bytes: ArrayBuffer, run(): number }, or -errno.
  Napi::Value MapRun(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  Napi::Value Answer(Napi::Env env, uint32_t request, bool returns_fd, int result);
  Napi::Value Adopt(Napi::Env env, uint32_t request, int fd);

  Windows windows_;
};

}  // namespace node_kvm
