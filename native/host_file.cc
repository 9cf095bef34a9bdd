#include "host_file.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "refusal.h"
#include "value.h"

namespace node_kvm {

namespace {

Napi::Value Adopt(Napi::Env env, int fd, bool is_eventfd) {
  if (fd < 0) return Napi::Number::New(env, -errno);
  UniqueFd owned(fd);
  auto* addon = env.GetInstanceData<Addon>();
  Reported reported(addon->external_memory, ExternalMemory::kDescriptorBytes);
  return HostFile::Create(addon->host_file_class,
                          OpenHostFile{std::move(owned), is_eventfd, std::move(reported)});
}

}  // namespace

Napi::Function HostFile::Define(Napi::Env env) {
  return DefineClass(
      env, "HostFile",
      {InstanceMethod<&HostFile::ReadCounter>("readCounter"),
       InstanceMethod<&HostFile::WriteCounter>("writeCounter"),
       InstanceMethod<&HostFile::StartWatch>("watch"),
       InstanceMethod<&HostFile::StopWatch>("unwatch"), InstanceMethod<&HostFile::Close>("close")});
}

Napi::Value HostFile::Eventfd(const Napi::CallbackInfo& info) {
  uint32_t initval = 0;
  uint32_t flags = 0;
  if (!ReadU32(info[0], &initval) || !ReadU32(info[1], &flags)) {
    return ThrowTypeError(info.Env(), "eventfd: expected two 32-bit numbers");
  }
  return Adopt(info.Env(), eventfd(initval, static_cast<int>(flags) | EFD_CLOEXEC | EFD_NONBLOCK),
               true);
}

Napi::Value HostFile::Open(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) return ThrowTypeError(info.Env(), "path: expected a string");
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  if (info.Env().IsExceptionPending()) return info.Env().Undefined();
  if (path.find('\0') != std::string::npos) return Napi::Number::New(info.Env(), -ENOENT);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg)
  return Adopt(info.Env(), open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK), false);
}

Napi::Value HostFile::Descriptors(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  struct rlimit most = {};
  if (getrlimit(RLIMIT_NOFILE, &most) != 0) return Napi::Number::New(env, -errno);
  const Napi::Object answer = Napi::Object::New(env);
  const Napi::Value limit = Napi::Number::New(env, static_cast<double>(most.rlim_cur));
  if (answer.IsEmpty() || !DefineOwn(env, answer, "limit", limit) ||
      !DefineOwn(env, answer, "own", Napi::Number::New(env, UniqueFd::open()))) {
    return ThrowUnlessPending(env, "an answer could not be made");
  }
  return answer;
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

Napi::Value HostFile::StartWatch(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) return ThrowTypeError(info.Env(), "watch: expected a function");
  if (fd() < 0) return Napi::Number::New(info.Env(), -EBADF);
  if (!state_.is_eventfd) return Napi::Number::New(info.Env(), -EINVAL);
  const int error = watch_.Start(info.Env(), fd(), info[0].As<Napi::Function>());
  return Napi::Number::New(info.Env(), error);
}

Napi::Value HostFile::StopWatch(const Napi::CallbackInfo& info) {
  watch_.Stop();
  return info.Env().Undefined();
}

Napi::Value HostFile::Close(const Napi::CallbackInfo& info) {
  watch_.Close();
  state_.fd.Reset();
  state_.reported.Set(0);
  return info.Env().Undefined();
}

}  // namespace node_kvm
