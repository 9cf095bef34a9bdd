// The checked door to the kernel: which request may carry which argument. Sizes and counts only,
// never contents; the table of sizes is generated/ioctl_shapes.h. No JavaScript in here.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "generated/ioctl_shapes.h"

namespace node_kvm {

// Null for a request that Linux 7.2 does not have.
const IoctlShape* FindShape(uint32_t request);

// What is wrong with this argument, in a sentence; empty when the kernel may have it.
// `past_end` lets a count reach beyond the argument: the guard page then makes it EFAULT.
std::string CheckArgument(const IoctlShape& shape, std::span<const uint8_t> argument,
                          bool past_end);

// The ioctl itself: its result, from 0 to 2^32 - 1, or -errno. A call that a signal has ended, as
// it can end KVM_CREATE_VM (mm_take_all_locks), is made once more with signals blocked; KVM_RUN is
// not. Some results are a number of 32 bits whose highest may be set (KVM_GET_TSC_KHZ); the
// kernel's own errors are -4095 to -1.
int64_t CallWithInteger(int fd, uint32_t request, uint64_t argument);

}  // namespace node_kvm
