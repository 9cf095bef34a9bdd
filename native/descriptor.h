// A KVM descriptor and what the descriptors of one VM share. JavaScript's hold on it is fd.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "region.h"
#include "unique_fd.h"

namespace node_kvm {

// What the descriptors of one VM share. The kernel keeps a VM alive while any of them is open, and
// a guest may touch its memory for as long, so the regions behind its slots live here: closing
// guest memory early never unmaps what a guest can still reach.
struct VmState {
  size_t run_size = 0;         // KVM_GET_VCPU_MMAP_SIZE
  size_t dirty_ring_size = 0;  // as KVM_ENABLE_CAP was told
  std::map<uint32_t, std::shared_ptr<Region>> slots;
  std::set<std::shared_ptr<Region>> held;  // what else the kernel has the address of
};

struct Descriptor {
  UniqueFd fd;
  std::shared_ptr<VmState> vm;  // null for /dev/kvm itself
  bool is_vcpu = false;
};

}  // namespace node_kvm
