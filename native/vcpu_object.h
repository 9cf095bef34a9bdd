// A vCPU's kvm_run and its runs as JavaScript has them: functions that are bound to their vCPU.
#pragma once

#include <napi.h>

#include <memory>

#include "vcpu_thread.h"
#include "window.h"

namespace node_kvm {

// { bytes: ArrayBuffer, ring: ArrayBuffer, token: bigint, run(): number, start(): number,
//   kick(pause?), setFilter(rules: Uint8Array): undefined | number }. `windows` are the vCPU's.
Napi::Value MakeVcpuObject(Napi::Env env, std::shared_ptr<VcpuThread> thread,
                           const Napi::Value& bytes, Windows& windows);

// kickVcpu(token): boolean.
Napi::Value KickVcpu(const Napi::CallbackInfo& info);

}  // namespace node_kvm
