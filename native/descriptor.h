// A KVM descriptor, and the state that the descriptors of one VM share. fd.h has the JavaScript
// object of a descriptor.
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

// The resources that a memory slot keeps while it exists.
struct Slot {
  std::shared_ptr<Region> region;         // the pointer is null for a slot without host memory
  std::shared_ptr<UniqueFd> guest_memfd;  // the pointer is null for a slot without guest_memfd
};

// The state that the descriptors of one VM share. The kernel keeps a VM while one of the VM's
// descriptors is open. As long as the kernel keeps the VM, a guest may access the VM's memory.
// VmState therefore owns the regions of the VM's slots, so closing guest memory early never unmaps
// memory that a guest can access. VmState also owns the guest_memfds of the slots, because KVM
// removes the pages of a guest_memfd from the guest when the file's last descriptor is closed
// (kvm_gmem_release). No member may own a VmState, directly or indirectly (region.h).
struct VmState {
  size_t run_size = 0;         // the result of KVM_GET_VCPU_MMAP_SIZE
  size_t dirty_ring_size = 0;  // the size of the dirty ring, set by KVM_ENABLE_CAP
  std::map<uint32_t, Slot> slots;
  std::set<std::shared_ptr<Region>> held;  // memory whose address the kernel keeps after an ioctl
};

struct Descriptor {
  std::shared_ptr<UniqueFd> file = nullptr;  // the pointer is null after close
  std::shared_ptr<VmState> vm = nullptr;     // the pointer is null for /dev/kvm
  bool is_vcpu = false;
  // NOLINTNEXTLINE(readability-redundant-member-init): designated initialisers need it
  Reported reported = {};

  // -1 once closed.
  int fd() const { return file == nullptr ? -1 : file->get(); }
};

}  // namespace node_kvm
