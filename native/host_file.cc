#include "host_file.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "value.h"

namespace node_kvm {

namespace {

Napi::Value Adopt(Napi::Env env, int fd) {
  if (fd < 0) return Napi::Number::New(env, -errno);
  return HostFile::Create(env.GetInstanceData<Addon>()->host_file_class, UniqueFd(fd));
}

}  // namespace

Napi::Function HostFile::Define(Napi::Env env) {
  return DefineClass(env, "HostFile",
                     {InstanceMethod<&HostFile::ReadCounter>("readCounter"),
                      InstanceMethod<&HostFile::WriteCounter>("writeCounter"),
                      InstanceMethod<&HostFile::Close>("close")});
}

Napi::Value HostFile::Eventfd(const Napi::CallbackInfo& info) {
  uint32_t initval = 0;
  uint32_t flags = 0;
  if (!ReadU32(info[0], &initval) || !ReadU32(info[1], &flags)) {
    return ThrowTypeError(info.Env(), "eventfd: expected two 32-bit numbers");
  }
  return Adopt(info.Env(), eventfd(initval, static_cast<int>(flags) | EFD_CLOEXEC | EFD_NONBLOCK));
}

Napi::Value HostFile::Open(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) return ThrowTypeError(info.Env(), "path: expected a string");
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  if (path.find('\0') != std::string::npos) return Napi::Number::New(info.Env(), -ENOENT);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg)
  return Adopt(info.Env(), open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
}

Napi::Value HostFile::ReadCounter(const Napi::CallbackInfo& info) {
  uint64_t count = 0;
  const ssize_t got = read(fd(), &count, sizeof(count));
  if (got < 0) return Napi::Number::New(info.Env(), -errno);
  if (got != sizeof(count)) return Napi::Number::New(info.Env(), -EINVAL);  // no eventfd
  return Napi::BigInt::New(info.Env(), count);
}

Napi::Value HostFile::WriteCounter(const Napi::CallbackInfo& info) {
  uint64_t value = 0;
  if (!ReadU64(info[0], &value)) {
    return ThrowTypeError(info.Env(), "writeCounter: expected a 64-bit bigint");
  }
  const ssize_t put = write(fd(), &value, sizeof(value));
  return Napi::Number::New(info.Env(), put < 0 ? -errno : 0);
}

Napi::Value HostFile::Close(const Napi::CallbackInfo& info) {
  state_.Reset();
  return info.Env().Undefined();
}

}  // namespace node_kvm
