// Starts threads in which no unexpected signal is delivered. What they do is their starter's.
#pragma once

#include <pthread.h>

#include <span>

namespace node_kvm {

// 0, or -errno. All signals but the given ones (0 is none) are blocked in the new thread, from its
// first instruction on.
int StartThread(void* (*main)(void*), void* argument, std::span<const int> unblocked,
                pthread_t* thread);

}  // namespace node_kvm
