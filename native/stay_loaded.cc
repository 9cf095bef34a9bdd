#include "stay_loaded.h"

#include <dlfcn.h>

namespace node_kvm {

void StayLoaded() {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<void*>(&StayLoaded), &info) == 0) return;
  static_cast<void>(dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE));
}

}  // namespace node_kvm
