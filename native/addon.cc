// What the addon exports, on one screen: the ways to get an object, a permission, a signal.
#include <napi.h>

#include "fd.h"
#include "host_file.h"
#include "mapping.h"
#include "vcpu_object.h"
#include "wrap.h"

namespace node_kvm {
namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* addon = new Addon(env);  // deleted with the environment
  addon->fd_class = Napi::Persistent(Fd::Define(env));
  addon->host_file_class = Napi::Persistent(HostFile::Define(env));
  addon->mapping_class = Napi::Persistent(Mapping::Define(env));
  env.SetInstanceData(addon);
  exports.Set("open", Napi::Function::New<&Fd::Open>(env, "open"));
  exports.Set("eventfd", Napi::Function::New<&HostFile::Eventfd>(env, "eventfd"));
  exports.Set("openFile", Napi::Function::New<&HostFile::Open>(env, "openFile"));
  exports.Set("mapAnonymous", Napi::Function::New<&Mapping::MapAnonymous>(env, "mapAnonymous"));
  exports.Set("mapMemfd", Napi::Function::New<&Mapping::MapMemfd>(env, "mapMemfd"));
  exports.Set("mapFile", Napi::Function::New<&Mapping::MapFile>(env, "mapFile"));
  exports.Set("keepBusHandler", Napi::Function::New<&Mapping::KeepHandler>(env, "keepBusHandler"));
  exports.Set("descriptors", Napi::Function::New<&HostFile::Descriptors>(env, "descriptors"));
  exports.Set("kickVcpu", Napi::Function::New<&KickVcpu>(env, "kickVcpu"));
  exports.Set("reqXcompGuestPerm",
              Napi::Function::New<&Fd::ReqXcompGuestPerm>(env, "reqXcompGuestPerm"));
  return exports;
}

}  // namespace
}  // namespace node_kvm

static Napi::Object InitNodeKvm(Napi::Env env, Napi::Object exports) {
  return node_kvm::Init(env, exports);
}
NODE_API_MODULE(node_kvm, InitNodeKvm)
