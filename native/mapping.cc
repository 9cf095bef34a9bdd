#include "mapping.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>

#include "refusal.h"
#include "unique_fd.h"

namespace node_kvm {

namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;
constexpr size_t kPageShift = 12;
constexpr size_t kPageShifts[] = {kPageShift, 21, 30};

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

// These are the kinds of advice that do not change the content of the memory.
constexpr size_t kAdvices[] = {MADV_MERGEABLE, MADV_HUGEPAGE, MADV_DONTDUMP, MADV_POPULATE_WRITE};

// The kernel allocates most pages of a mapping at the first access, without notifying the process.
// A mapping reports at most this size to V8 until all of its pages are known to be allocated. V8
// starts a collection when external memory has grown by 64 MiB since the last one. With this limit,
// a program that opens and closes VMs one after another causes no collections, for any size of
// memory that is not populated. A program that drops such VMs without closing them has at most four
// VMs that are not yet collected.
constexpr size_t kMostUnknownBytes = size_t{16} << 20;

// Reads an integer of 0 or more from JavaScript. Returns false for any other value; do not use
// `size` in this case.
bool ReadSize(const Napi::Value& value, size_t* size) {
  if (!value.IsNumber()) return false;
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= kMaxSafeInteger)) return false;
  *size = static_cast<size_t>(number);
  return static_cast<double>(*size) == number;
}

bool IsOneOf(std::span<const size_t> all, size_t one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

// The arguments of mapAnonymous and mapMemfd.
struct Request {
  size_t length = 0;
  size_t page_shift = kPageShift;
  bool reserve = false;

  // A reserved huge page belongs to this mapping even before the first access.
  bool TakesPagesNow() const { return reserve && page_shift != kPageShift; }
};

// Returns an empty value, with a JavaScript error pending, for invalid arguments.
std::optional<Request> ReadRequest(const Napi::CallbackInfo& info) {
  Request request;
  if (!ReadSize(info[0], &request.length)) {
    ThrowTypeError(info.Env(), "length: expected a size");
    return {};
  }
  if (!info[1].IsUndefined() &&
      (!ReadSize(info[1], &request.page_shift) || !IsOneOf(kPageShifts, request.page_shift))) {
    ThrowTypeError(info.Env(), "pageShift: expected 12, 21 or 30");
    return {};
  }
  request.reserve = info[2].IsBoolean() && info[2].As<Napi::Boolean>().Value();
  return request;
}

Backing BackingOf(const Request& request, int flags) {
  if (!request.reserve) flags |= MAP_NORESERVE;
  return {.flags = flags, .page_size = size_t{1} << request.page_shift};
}

Napi::Value Refused(Napi::Env env, const char* call) { return ToValue(env, Refusal::Of(call)); }

// Reads the page size of a file's mappings. A file on hugetlbfs is mapped with whole huge pages,
// because mmap rounds the length up. Returns false on failure, with errno set.
bool ReadPageSize(int fd, size_t* page_size) {
  struct statfs about = {};
  if (fstatfs(fd, &about) != 0) return false;
  const bool is_huge = about.f_type == HUGETLBFS_MAGIC;
  *page_size = is_huge ? static_cast<size_t>(about.f_bsize) : kPageSize;
  return true;
}

}  // namespace

Napi::Function Mapping::Define(Napi::Env env) {
  return DefineClass(
      env, "Mapping",
      {InstanceMethod<&Mapping::ByteLength>("byteLength"),
       InstanceMethod<&Mapping::Advise>("advise"),
       InstanceMethod<&Mapping::HasLostPages>("hasLostPages"),
       InstanceMethod<&Mapping::Window>("window"), InstanceMethod<&Mapping::Close>("close")});
}

Napi::Value Mapping::CreateOf(Napi::Env env, std::shared_ptr<Region> region, bool has_pages) {
  auto* addon = env.GetInstanceData<Addon>();
  const size_t size = region->range()->mapped().size();
  const size_t bytes = has_pages ? size : std::min(size, kMostUnknownBytes);
  region->Report(Reported(addon->external_memory, bytes));
  return Create(addon->mapping_class, std::move(region));
}

Napi::Value Mapping::MapAnonymous(const Napi::CallbackInfo& info) {
  const std::optional<Request> request = ReadRequest(info);
  if (!request || !TakeBusErrors(info.Env())) return info.Env().Undefined();
  const int huge = request->page_shift == kPageShift
                       ? 0
                       : MAP_HUGETLB | static_cast<int>(request->page_shift << MAP_HUGE_SHIFT);
  std::shared_ptr<Region> region =
      Region::Map(request->length, BackingOf(*request, MAP_PRIVATE | MAP_ANONYMOUS | huge));
  if (region == nullptr) return Napi::Number::New(info.Env(), -errno);
  return CreateOf(info.Env(), std::move(region), request->TakesPagesNow());
}

Napi::Value Mapping::MapMemfd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::optional<Request> request = ReadRequest(info);
  if (!request || !TakeBusErrors(env)) return env.Undefined();
  const unsigned huge =
      request->page_shift == kPageShift
          ? 0
          : MFD_HUGETLB | static_cast<unsigned>(request->page_shift << MAP_HUGE_SHIFT);
  auto fd = std::make_shared<UniqueFd>(
      memfd_create("node-kvm guest memory", MFD_CLOEXEC | MFD_ALLOW_SEALING | huge));
  if (fd->get() < 0) return Refused(env, "memfd_create");
  Backing backing = BackingOf(*request, MAP_SHARED);
  backing.fd = fd->get();
  const size_t size = (request->length + backing.page_size - 1) & ~(backing.page_size - 1);
  if (ftruncate(fd->get(), static_cast<off_t>(size)) != 0) return Refused(env, "ftruncate");
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg)
  if (fcntl(fd->get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Refused(env, "fcntl");
  }
  // The descriptor stays open while the memory exists, so that debuggers find the memory in /proc.
  std::shared_ptr<Region> region = Region::Map(request->length, backing, std::move(fd));
  if (region == nullptr) return Refused(env, "mmap");
  return CreateOf(env, std::move(region), request->TakesPagesNow());
}

Napi::Value Mapping::MapFile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  size_t offset = 0;
  size_t length = 0;
  if (!info[0].IsString()) return ThrowTypeError(env, "path: expected a string");
  if (!ReadSize(info[1], &offset)) return ThrowTypeError(env, "offset: expected a size");
  if (!info[2].IsUndefined() && !ReadSize(info[2], &length)) {
    return ThrowTypeError(env, "length: expected a size");
  }
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  if (env.IsExceptionPending() || !TakeBusErrors(env)) return env.Undefined();
  if (path.find('\0') != std::string::npos) {
    errno = ENOENT;
    return Refused(env, "open");
  }
  // Without O_NONBLOCK, opening a FIFO would block until it has a writer.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return Refused(env, "open");
  struct stat about = {};
  if (fstat(fd.get(), &about) != 0) return Refused(env, "fstat");
  if (!S_ISREG(about.st_mode)) {
    errno = ENODEV;  // mmap returns ENODEV for most files that are not regular
    return Refused(env, "mmap");
  }
  Backing backing{.flags = MAP_PRIVATE | MAP_NORESERVE, .fd = fd.get(), .offset = offset};
  if (!ReadPageSize(fd.get(), &backing.page_size)) return Refused(env, "fstatfs");
  const auto size = static_cast<size_t>(about.st_size);
  const size_t rest = size < offset ? 0 : size - offset;
  const size_t pages = (rest + backing.page_size - 1) & ~(backing.page_size - 1);
  if (info[2].IsUndefined()) length = pages;
  if (length > pages) {
    return ThrowRangeError(env, path + ": " + std::to_string(length) + " bytes at " +
                                    std::to_string(offset) + " are beyond the file's " +
                                    std::to_string(size));
  }
  std::shared_ptr<Region> region = Region::Map(length, backing);
  if (region == nullptr) return Refused(env, "mmap");
  return CreateOf(env, std::move(region));
}

Napi::Value Mapping::KeepHandler(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), KeepBusHandler());
}

bool Mapping::TakeBusErrors(Napi::Env env) {
  const int error = KeepBusHandler();
  if (error == 0) return true;
  ThrowUnlessPending(env, "sigaction (SIGBUS): errno " + std::to_string(-error));
  return false;
}

Napi::Value Mapping::ByteLength(const Napi::CallbackInfo& info) {
  const size_t size = state_ == nullptr ? 0 : state_->size();
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}

Napi::Value Mapping::Advise(const Napi::CallbackInfo& info) {
  size_t advice = 0;
  if (!ReadSize(info[0], &advice) || !IsOneOf(kAdvices, advice)) {
    return ThrowTypeError(info.Env(), "advise: expected an advice that changes no content");
  }
  if (state_ == nullptr) return ThrowTypeError(info.Env(), "advise: the mapping is closed");
  const std::span<uint8_t> mapped = state_->range()->mapped();
  const int result = madvise(mapped.data(), mapped.size(), static_cast<int>(advice));
  const int error = result < 0 ? errno : 0;
  if (error == 0 && advice == MADV_POPULATE_WRITE) state_->ReportAll();
  return Napi::Number::New(info.Env(), -error);
}

Napi::Value Mapping::HasLostPages(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), state_ != nullptr && state_->range()->HasLostPages());
}

Napi::Value Mapping::Window(const Napi::CallbackInfo& info) {
  size_t offset = 0;
  size_t length = 0;
  if (!ReadSize(info[0], &offset) || !ReadSize(info[1], &length)) {
    return ThrowTypeError(info.Env(), "window: expected an offset and a length");
  }
  if (state_ == nullptr) return ThrowTypeError(info.Env(), "window: the mapping is closed");
  if (length == 0 || length > state_->size() || offset > state_->size() - length) {
    return ThrowRangeError(info.Env(), "window: " + std::to_string(length) + " bytes at " +
                                           std::to_string(offset) + " are not inside " +
                                           std::to_string(state_->size()) + " bytes");
  }
  if (length > Windows::kMaxLength) {
    return ThrowRangeError(info.Env(), "window: " + std::to_string(length) +
                                           " bytes are more than one ArrayBuffer shows, " +
                                           std::to_string(Windows::kMaxLength));
  }
  return windows_.Open(info.Env(), state_, offset, length);
}

Napi::Value Mapping::Close(const Napi::CallbackInfo& info) {
  windows_.DetachAll(info.Env());
  state_.reset();  // if a memory slot still owns the region, the region is unmapped with the slot
  return info.Env().Undefined();
}

}  // namespace node_kvm
