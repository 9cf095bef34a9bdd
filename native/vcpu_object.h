// The JavaScript object for a vCPU's kvm_run and runs; its functions are bound to the vCPU.
#pragma once

#include <napi.h>

#include <memory>

#include "vcpu_thread.h"

namespace node_kvm {

// Returns { bytes: ArrayBuffer, token: bigint, run(): number, start(): 0 or { call, errno },
//   kick(isPause?): 0 or tgkill's -errno, history(): number,
//   setFilter(rules: Uint8Array, ring: Mapping): 0 or -errno }
Napi::Value MakeVcpuObject(Napi::Env env, const std::shared_ptr<VcpuThread>& thread,
                           const Napi::Value& bytes);

// kickVcpu(token) returns a boolean, or { call, errno } if the signal could not be sent.
Napi::Value KickVcpu(const Napi::CallbackInfo& info);

}  // namespace node_kvm
