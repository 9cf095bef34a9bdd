// Executes the CPUID instruction on a CPU of this host.
#pragma once

#include <napi.h>

namespace node_kvm {

// The arguments are the function, the index, and 16 bytes into which eax, ebx, ecx and edx are
// written.
Napi::Value HostCpuid(const Napi::CallbackInfo& info);

}  // namespace node_kvm
