// Exports the addon's functions: they create objects, request permissions and send signals.
#include <napi.h>

#include <memory>

#include "fd.h"
#include "host_cpuid.h"
#include "host_file.h"
#include "mapping.h"
#include "refusal.h"
#include "vcpu_object.h"
#include "wrap.h"

namespace node_kvm {
namespace {

using Define = Napi::Function(Napi::Env);

// Returns false if a class could not be created; an exception may be pending.
bool Keep(Napi::Env env, Define define, Napi::FunctionReference* kept) {
  const Napi::Function made = define(env);
  if (made.IsEmpty()) return false;
  *kept = Napi::Persistent(made);
  return !kept->IsEmpty();
}

template <Napi::Value (*callback)(const Napi::CallbackInfo&)>
bool Export(Napi::Env env, Napi::Object exports, const char* name) {
  return DefineOwn(env, exports, name, Napi::Function::New<callback>(env, name));
}

bool SetUp(Napi::Env env, Napi::Object exports) {
  auto addon = std::make_unique<Addon>(env);
  if (!Keep(env, Fd::Define, &addon->fd_class) ||
      !Keep(env, HostFile::Define, &addon->host_file_class) ||
      !Keep(env, Mapping::Define, &addon->mapping_class)) {
    return false;
  }
  const auto end = [](napi_env, void* data, void*) { delete static_cast<Addon*>(data); };
  if (napi_set_instance_data(env, addon.get(), end, nullptr) != napi_ok) return false;
  static_cast<void>(addon.release());  // NOLINT(bugprone-unused-return-value): `end` deletes it
  return Export<&Fd::Open>(env, exports, "open") &&
         Export<&HostFile::Eventfd>(env, exports, "eventfd") &&
         Export<&HostFile::Open>(env, exports, "openFile") &&
         Export<&Mapping::MapAnonymous>(env, exports, "mapAnonymous") &&
         Export<&Mapping::MapMemfd>(env, exports, "mapMemfd") &&
         Export<&Mapping::MapFile>(env, exports, "mapFile") &&
         Export<&Mapping::KeepHandler>(env, exports, "keepBusHandler") &&
         Export<&HostFile::Descriptors>(env, exports, "descriptors") &&
         Export<&HostCpuid>(env, exports, "hostCpuid") &&
         Export<&KickVcpu>(env, exports, "kickVcpu") &&
         Export<&Fd::ReqXcompGuestPerm>(env, exports, "reqXcompGuestPerm");
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  if (!SetUp(env, exports)) ThrowUnlessPending(env, "node-kvm's addon could not be set up");
  return exports;
}

}  // namespace
}  // namespace node_kvm

static Napi::Object InitNodeKvm(Napi::Env env, Napi::Object exports) {
  return node_kvm::Init(env, exports);
}
NODE_API_MODULE(node_kvm, InitNodeKvm)
