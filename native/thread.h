// Starts threads that no signal finds unprepared. What they do is their starter's.
#pragma once

#include <pthread.h>

#include <initializer_list>

namespace node_kvm {

// 0, or -errno. All signals are blocked in it but the given ones; the new thread has them so from
// its first instruction.
int StartThread(void* (*main)(void*), void* argument, std::initializer_list<int> unblocked,
                pthread_t* thread);

}  // namespace node_kvm
