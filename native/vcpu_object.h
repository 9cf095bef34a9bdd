// A vCPU's kvm_run and its runs as JavaScript has them: functions that are bound to their vCPU.
#pragma once

#include <napi.h>

#include <memory>

#include "vcpu_thread.h"

namespace node_kvm {

// { bytes: ArrayBuffer, run(): number, start(): number, kick() }
Napi::Value MakeVcpuObject(Napi::Env env, const std::shared_ptr<VcpuThread>& thread,
                           const Napi::Value& bytes);

}  // namespace node_kvm
