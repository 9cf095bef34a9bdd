// A KVM descriptor and what the descriptors of one VM share. JavaScript's hold on it is fd.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "external_memory.h"
#include "region.h"
#include "unique_fd.h"

namespace node_kvm {

// What a memory slot uses, for as long as the slot exists.
struct Slot {
  std::shared_ptr<Region> region;         // null for a slot without host memory
  std::shared_ptr<UniqueFd> guest_memfd;  // null for a slot without one
};

// What the descriptors of one VM share. The kernel keeps a VM alive while any of them is open, and
// a guest may touch its memory for as long, so the regions behind its slots live here: closing
// guest memory early never unmaps what a guest can still reach. The same goes for a guest_memfd:
// KVM takes its pages from the guest when its last descriptor is closed (kvm_gmem_release).
// Nothing in here may own a VmState, in however many steps (region.h).
struct VmState {
  size_t run_size = 0;         // KVM_GET_VCPU_MMAP_SIZE
  size_t dirty_ring_size = 0;  // as KVM_ENABLE_CAP was told
  std::map<uint32_t, Slot> slots;
  std::set<std::shared_ptr<Region>> held;  // what else the kernel has the address of
};

struct Descriptor {
  std::shared_ptr<UniqueFd> file = nullptr;  // null once closed
  std::shared_ptr<VmState> vm = nullptr;     // null for /dev/kvm itself
  bool is_vcpu = false;
  // NOLINTNEXTLINE(readability-redundant-member-init): else designated initialisers must name it
  Reported reported = {};

  // -1 once closed.
  int fd() const { return file == nullptr ? -1 : file->get(); }
};

}  // namespace node_kvm
