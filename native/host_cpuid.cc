#include "host_cpuid.h"

#include <cpuid.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "value.h"
#include "wrap.h"

namespace node_kvm {

Napi::Value HostCpuid(const Napi::CallbackInfo& info) {
  uint32_t function = 0;
  uint32_t index = 0;
  std::span<uint8_t> out;
  std::array<uint32_t, 4> words = {};
  if (!ReadU32(info[0], &function) || !ReadU32(info[1], &index) || !ReadBytes(info[2], &out) ||
      out.size() != sizeof(words)) {
    return ThrowTypeError(info.Env(), "hostCpuid: expected two 32-bit numbers and 16 bytes");
  }
  __cpuid_count(function, index, words[0], words[1], words[2], words[3]);
  std::memcpy(out.data(), words.data(), sizeof(words));
  return info.Env().Undefined();
}

}  // namespace node_kvm
