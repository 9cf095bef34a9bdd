#include "fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "argument.h"
#include "ioctl.h"
#include "mapping.h"
#include "refusal.h"
#include "value.h"
#include "vcpu_object.h"

namespace node_kvm {

namespace {

Napi::Value Number(Napi::Env env, int64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

// Issues KVM_SET_SIGNAL_MASK with the kick's signals unblocked, because a guest that no kick can
// interrupt would run forever. The caller's signal set, which follows its length in the argument,
// is restored.
int64_t SetSignalMask(int fd, std::span<uint8_t> mask) {
  const std::vector<uint8_t> before(mask.begin(), mask.end());
  for (const int signal : KickSignals()) {
    const auto bit = static_cast<size_t>(signal - 1);
    const size_t place = sizeof(uint32_t) + bit / 8;
    if (signal != 0 && place < mask.size()) mask[place] &= ~(1U << (bit % 8));
  }
  const int64_t result =
      CallWithInteger(fd, kKvmSetSignalMask, reinterpret_cast<uint64_t>(mask.data()));
  std::copy(before.begin(), before.end(), mask.begin());
  return result;
}

// Sets close-on-exec. KVM opens VMs, vCPUs, devices and statistics with O_CLOEXEC, but not a
// guest_memfd (__kvm_gmem_create), and KVM_CREATE_GUEST_MEMFD has no flag for O_CLOEXEC. If another
// thread starts a child process between the ioctl and this call, the child process still inherits
// the descriptor. Returns false on failure, with errno set.
bool CloseOnExec(int fd) {
  // NOLINTBEGIN(cppcoreguidelines-pro-type-vararg)
  const int flags = fcntl(fd, F_GETFD);
  return flags >= 0 && ((flags & FD_CLOEXEC) != 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) == 0);
  // NOLINTEND(cppcoreguidelines-pro-type-vararg)
}

}  // namespace

Napi::Function Fd::Define(Napi::Env env) {
  return DefineClass(
      env, "Fd",
      {InstanceMethod<&Fd::Ioctl>("ioctl"),
       InstanceMethod<&Fd::SetUserMemoryRegion>("setUserMemoryRegion"),
       InstanceMethod<&Fd::MapRun>("mapRun"), InstanceMethod<&Fd::MapDirtyRing>("mapDirtyRing"),
       InstanceMethod<&Fd::MapMemfd>("mapMemfd"), InstanceMethod<&Fd::Fallocate>("fallocate"),
       InstanceMethod<&Fd::Read>("read"), InstanceMethod<&Fd::Close>("close")});
}

Napi::Value Fd::Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString()) return ThrowTypeError(env, "path: expected a string");
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  if (env.IsExceptionPending()) return env.Undefined();
  if (path.find('\0') != std::string::npos) return Number(env, -ENOENT);
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));  // NOLINT(cppcoreguidelines-pro-type-vararg)
  if (fd.get() < 0) return Number(env, -errno);
  // Other devices may use the same request numbers differently.
  const int64_t version = CallWithInteger(fd.get(), kKvmGetApiVersion, 0);
  if (version < 0) return Number(env, version);
  return CreateOf(env, {.file = std::make_shared<UniqueFd>(std::move(fd))});
}

Napi::Value Fd::CreateOf(Napi::Env env, Descriptor descriptor) {
  auto* addon = env.GetInstanceData<Addon>();
  descriptor.reported = Reported(addon->external_memory, ExternalMemory::kDescriptorBytes);
  return Create(addon->fd_class, std::make_shared<Descriptor>(std::move(descriptor)));
}

Napi::Value Fd::Ioctl(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t request = 0;
  if (!ReadU32(info[0], &request)) return ThrowTypeError(env, "request: expected a 32-bit number");
  const IoctlShape* shape = FindShape(request);
  if (shape == nullptr) return ThrowTypeError(env, "request: not a KVM ioctl of Linux 7.2");

  if (shape->kind == Kind::kNone || shape->kind == Kind::kValue) {
    uint64_t integer = 0;
    uint32_t small = 0;
    if (ReadU32(info[1], &small)) {
      integer = small;
    } else if (!info[1].IsUndefined() && !ReadU64(info[1], &integer)) {
      return ThrowTypeError(env, std::string(shape->name) + " takes an unsigned integer");
    }
    const int64_t result = CallWithInteger(state_->fd(), request, integer);
    return Answer(env, request, shape->result == Result::kFd, result);
  }
  if (shape->nullable && info[1].IsUndefined()) {
    return Answer(env, request, false, CallWithInteger(state_->fd(), request, 0));
  }
  return CallWithStruct(info, *shape);
}

Napi::Value Fd::CallWithStruct(const Napi::CallbackInfo& info, const IoctlShape& shape) {
  const Napi::Env env = info.Env();
  const std::string name = shape.name;
  if (shape.kind == Kind::kPointing && shape.links == 0) {
    return ThrowTypeError(env, name + " has a function of its own");
  }
  std::span<uint8_t> bytes;
  if (!ReadBytes(info[1], &bytes)) {
    return ThrowTypeError(env, name + " takes a Uint8Array (not shared)");
  }
  const std::string complaint =
      CheckArgument(shape, bytes, info[2].IsBoolean() && info[2].As<Napi::Boolean>().Value());
  if (!complaint.empty()) return ThrowRangeError(env, complaint);
  // With KVM_CREATE_DEVICE_TEST, the kernel creates no device, so the number in the caller's struct
  // is not a new descriptor.
  if (shape.result == Result::kFdInStruct) {
    memset(bytes.data() + shape.fd_offset, 0xff, sizeof(int));
  }
  int64_t result = 0;
  if (shape.kind == Kind::kPlain && shape.links == 0) {
    if (!info[3].IsUndefined()) return ThrowTypeError(env, name + " has no links");
    result = CallWithInteger(state_->fd(), shape.request, reinterpret_cast<uint64_t>(bytes.data()));
  } else {
    Argument argument(env, env.GetInstanceData<Addon>()->copies);
    if (!argument.Fill(shape, info[1], info[3], state_->is_vcpu)) {
      if (env.IsExceptionPending()) return env.Undefined();
      if (argument.complaint().empty()) return ToValue(env, argument.refusal());
      return ThrowTypeError(env, name + ": " + argument.complaint());
    }
    const uint64_t address = argument.Address();
    result = shape.request == kKvmSetSignalMask && address != 0
                 ? SetSignalMask(state_->fd(), argument.bytes())
                 : CallWithInteger(state_->fd(), shape.request, address);
    if (result >= 0 && state_->vm != nullptr) {
      state_->vm->held.insert(argument.held().begin(), argument.held().end());
      if (shape.request == kKvmEnableCap) {
        RememberCap(argument.bytes());
      }
    }
    argument.CopyBack();
  }
  if (shape.result != Result::kFdInStruct || result < 0) {
    return Answer(env, shape.request, shape.result == Result::kFd, result);
  }
  // The number must not be returned to JavaScript, because it would outlive the object that owns
  // the descriptor.
  int fd = -1;
  memcpy(&fd, bytes.data() + shape.fd_offset, sizeof(fd));
  memset(bytes.data() + shape.fd_offset, 0xff, sizeof(fd));
  return fd < 0 ? Number(env, result) : Adopt(env, shape.request, fd);
}

void Fd::RememberCap(std::span<const uint8_t> argument) {
  uint32_t cap = 0;
  uint64_t first = 0;
  memcpy(&cap, argument.data() + kEnableCapCapOffset, sizeof(cap));
  memcpy(&first, argument.data() + kEnableCapArgsOffset, sizeof(first));
  if (cap == kKvmCapDirtyLogRing || cap == kKvmCapDirtyLogRingAcqRel) {
    state_->vm->dirty_ring_size = first;
  }
}

Napi::Value Fd::Answer(Napi::Env env, uint32_t request, bool returns_fd, int64_t result) {
  return returns_fd && result >= 0 ? Adopt(env, request, static_cast<int>(result))
                                   : Number(env, result);
}

Napi::Value Fd::Adopt(Napi::Env env, uint32_t request, int fd) {
  Descriptor descriptor{.file = std::make_shared<UniqueFd>(fd),
                        .vm = state_->vm,
                        .is_vcpu = request == kKvmCreateVcpu};
  if (!CloseOnExec(fd)) return ToValue(env, Refusal::Of("fcntl"));
  if (request == kKvmCreateVm) {
    const int64_t run_size = CallWithInteger(state_->fd(), kKvmGetVcpuMmapSize, 0);
    if (run_size < 0) {
      return ToValue(env, {"KVM_GET_VCPU_MMAP_SIZE", static_cast<int>(run_size)});
    }
    descriptor.vm = std::make_shared<VmState>();
    descriptor.vm->run_size = static_cast<size_t>(run_size);
  }
  return CreateOf(env, std::move(descriptor));
}

Napi::Value Fd::SetUserMemoryRegion(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t slot = 0;
  uint32_t flags = 0;
  uint64_t guest_phys_addr = 0;
  uint64_t memory_size = 0;
  uint64_t offset = 0;
  if (!ReadU32(info[0], &slot) || !ReadU32(info[1], &flags) ||
      !ReadU64(info[2], &guest_phys_addr) || !ReadU64(info[3], &memory_size) ||
      !ReadU64(info[5], &offset)) {
    return ThrowTypeError(env,
                          "slot and flags are 32-bit numbers; addresses and sizes are bigints");
  }
  std::shared_ptr<Region> region;
  if (info[4].IsNull()) {
    if (memory_size != 0) return ThrowTypeError(env, "a slot that is not deleted needs memory");
  } else {
    Mapping* mapping = UnwrapChecked<Mapping>(info[4]);
    if (mapping == nullptr) return ThrowTypeError(env, "memory: expected a GuestMemory");
    region = mapping->region();
    if (region == nullptr) return ThrowTypeError(env, "memory: it is closed");
    if (offset > region->size() || memory_size > region->size() - offset) {
      return ThrowRangeError(env, "memorySize " + std::to_string(memory_size) + " at offset " +
                                      std::to_string(offset) + " is beyond the memory's " +
                                      std::to_string(region->size()) + " bytes");
    }
  }
  const bool is_second = !info[6].IsUndefined();
  std::shared_ptr<UniqueFd> guest_memfd;
  uint64_t guest_memfd_offset = 0;
  if (is_second) {
    const Fd* file = UnwrapChecked<Fd>(info[6]);
    if ((file == nullptr && !info[6].IsNull()) || !ReadU64(info[7], &guest_memfd_offset)) {
      return ThrowTypeError(env, "guestMemfd: expected a GuestMemfd or null, and a bigint");
    }
    if (file != nullptr) guest_memfd = file->state_->file;
  }
  if (state_->vm == nullptr) return Number(env, -ENOTTY);
  uint8_t argument[kUserMemoryRegion2Size] = {};
  const uint64_t address =
      region == nullptr ? 0 : reinterpret_cast<uint64_t>(region->data()) + offset;
  memcpy(argument + kUserMemoryRegionSlotOffset, &slot, sizeof(slot));
  memcpy(argument + kUserMemoryRegionFlagsOffset, &flags, sizeof(flags));
  memcpy(argument + kUserMemoryRegionGuestPhysAddrOffset, &guest_phys_addr, 8);
  memcpy(argument + kUserMemoryRegionMemorySizeOffset, &memory_size, 8);
  memcpy(argument + kUserMemoryRegionUserspaceAddrOffset, &address, 8);
  static_assert(kUserMemoryRegionUserspaceAddrOffset == kUserMemoryRegion2UserspaceAddrOffset);
  memcpy(argument + kUserMemoryRegion2GuestMemfdOffsetOffset, &guest_memfd_offset, 8);
  const int guest_memfd_number = guest_memfd == nullptr ? -1 : guest_memfd->get();
  memcpy(argument + kUserMemoryRegion2GuestMemfdOffset, &guest_memfd_number, sizeof(int));
  const int64_t result =
      CallWithInteger(state_->fd(), is_second ? kKvmSetUserMemoryRegion2 : kKvmSetUserMemoryRegion,
                      reinterpret_cast<uint64_t>(argument));
  if (result >= 0) {
    if (memory_size == 0) {
      state_->vm->slots.erase(slot);
    } else {
      // Without the flag, KVM does not read the descriptor in this struct.
      if ((flags & kKvmMemGuestMemfd) == 0) guest_memfd.reset();
      state_->vm->slots[slot] = {region, std::move(guest_memfd)};
    }
  }
  return Number(env, result);
}

Napi::Value Fd::ReqXcompGuestPerm(const Napi::CallbackInfo& info) {
  uint32_t component = 0;
  if (!ReadU32(info[0], &component)) {
    return ThrowTypeError(info.Env(), "component: expected a 32-bit number");
  }
  constexpr int kArchReqXcompGuestPerm = 0x1025;  // arch/x86/include/uapi/asm/prctl.h
  const int64_t result = syscall(SYS_arch_prctl, kArchReqXcompGuestPerm, component);
  return Number(info.Env(), result < 0 ? -errno : 0);
}

Napi::Value Fd::MapRun(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  // A guest_memfd can be mapped too, but a read beyond its end would raise SIGBUS.
  if (!state_->is_vcpu || state_->vm == nullptr) return ToValue(env, {"mmap", -ENODEV});
  if (!Mapping::TakeBusErrors(env)) return env.Undefined();
  const std::shared_ptr<Region> region = Region::OfDescriptor(state_->fd(), state_->vm->run_size);
  if (region == nullptr) return ToValue(env, Refusal::Of("mmap"));
  if (!info[0].IsFunction()) return ThrowTypeError(env, "done: expected a function");
  const int error = InstallKick();
  if (error != 0) return ToValue(env, {"sigaction", error});
  auto* addon = env.GetInstanceData<Addon>();
  if (info[1].IsFunction() && addon->loop_watch == nullptr) {
    auto watch = std::make_unique<LoopWatch>();
    const Refusal refusal = watch->Start(env, info[1].As<Napi::Function>());
    if (refusal) return ToValue(env, refusal);
    addon->loop_watch = std::move(watch);
  }
  const Napi::Value bytes = windows_.Open(env, region, 0, region->size());
  if (bytes.IsEmpty()) return env.Undefined();
  auto thread = std::make_shared<VcpuThread>(env, state_, region, addon->loop_watch.get());
  thread->SetDone(info[0].As<Napi::Function>());
  threads_.push_back(thread);
  return MakeVcpuObject(env, thread, bytes);
}

Napi::Value Fd::MapDirtyRing(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!state_->is_vcpu || state_->vm == nullptr) return Number(env, -ENODEV);
  // Access beyond the ring raises SIGBUS, so only the ring's size is mapped.
  const size_t size = state_->vm->dirty_ring_size;
  if (size == 0) return Number(env, -EINVAL);
  if (!Mapping::TakeBusErrors(env)) return env.Undefined();
  const std::shared_ptr<Region> region =
      Region::OfDescriptor(state_->fd(), size, kKvmDirtyLogPageOffset * kPageSize);
  if (region == nullptr) return Number(env, -errno);
  const Napi::Value bytes = windows_.Open(env, region, 0, size);
  return bytes.IsEmpty() ? env.Undefined() : bytes;
}

Napi::Value Fd::MapMemfd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (state_->is_vcpu) return Number(env, -ENODEV);
  if (state_->fd() < 0) return Number(env, -EBADF);
  if (!Mapping::TakeBusErrors(env)) return env.Undefined();
  struct stat status = {};
  if (fstat(state_->fd(), &status) != 0) return ToValue(env, Refusal::Of("fstat"));
  std::shared_ptr<Region> region =
      Region::OfDescriptor(state_->fd(), static_cast<size_t>(status.st_size));
  if (region == nullptr) return Number(env, -errno);
  return Mapping::CreateOf(env, std::move(region));
}

Napi::Value Fd::Fallocate(const Napi::CallbackInfo& info) {
  uint32_t mode = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  if (!ReadU32(info[0], &mode) || !ReadU64(info[1], &offset) || !ReadU64(info[2], &length)) {
    return ThrowTypeError(info.Env(), "fallocate: expected a number and two bigints");
  }
  const int result = fallocate(state_->fd(), static_cast<int>(mode), static_cast<off_t>(offset),
                               static_cast<off_t>(length));
  return Number(info.Env(), result < 0 ? -errno : 0);
}

Napi::Value Fd::Read(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  constexpr uint32_t kMost = 1U << 24;
  uint64_t position = 0;
  uint32_t length = 0;
  if (!ReadU64(info[0], &position) || !ReadU32(info[1], &length) || length > kMost) {
    return ThrowTypeError(env, "read: expected a bigint and at most 16 MiB");
  }
  auto buffer = Napi::ArrayBuffer::New(env, length);
  if (buffer.IsEmpty()) return ThrowUnlessPending(env, "read: the buffer could not be made");
  const ssize_t got = pread(state_->fd(), buffer.Data(), length, static_cast<off_t>(position));
  if (got < 0) return Number(env, -errno);
  return Napi::Uint8Array::New(env, static_cast<size_t>(got), buffer, 0);
}

Napi::Value Fd::Close(const Napi::CallbackInfo& info) {
  std::vector<std::shared_ptr<VcpuThread>> threads;
  for (const std::weak_ptr<VcpuThread>& weak : threads_) {
    if (auto thread = weak.lock()) threads.push_back(std::move(thread));
  }
  // All threads are requested to stop before the first thread is joined; see
  // Delivery::OnEnvironmentEnds.
  for (const auto& thread : threads) thread->RequestStop();
  for (const auto& thread : threads) thread->Close();
  threads_.clear();
  windows_.DetachAll(info.Env());
  state_->file.reset();
  state_->vm.reset();
  state_->reported.Set(0);
  return info.Env().Undefined();
}

}  // namespace node_kvm
