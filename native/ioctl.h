// Checks the argument of each ioctl: its kind, its size and its counts, but not its contents.
// generated/ioctl_shapes.h has the table of sizes. This file is compiled without JavaScript.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "generated/ioctl_shapes.h"

namespace node_kvm {

// Returns null for a request that Linux 7.2 does not have.
const IoctlShape* FindShape(uint32_t request);

// Describes the fault of this argument in a sentence; returns an empty text if the argument can be
// passed to the kernel. `past_end` allows a count beyond the argument: the guard page then causes
// EFAULT.
std::string CheckArgument(const IoctlShape& shape, std::span<const uint8_t> argument,
                          bool past_end);

// Issues the ioctl and returns its result, from 0 to 2^32 - 1, or -errno. If a signal has
// interrupted a call other than KVM_RUN, such as KVM_CREATE_VM (mm_take_all_locks), the call is
// issued again with signals blocked. The result of some ioctls is a 32-bit number whose highest bit
// may be set (KVM_GET_TSC_KHZ); the kernel's errors are -4095 to -1.
int64_t CallWithInteger(int fd, uint32_t request, uint64_t argument);

}  // namespace node_kvm
