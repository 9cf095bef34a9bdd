// The CPUID instruction on a CPU of this host.
#pragma once

#include <napi.h>

namespace node_kvm {

// Arguments: function, index, and 16 bytes that get eax, ebx, ecx and edx.
Napi::Value HostCpuid(const Napi::CallbackInfo& info);

}  // namespace node_kvm
