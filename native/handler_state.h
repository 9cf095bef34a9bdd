// Thread-local variables that a signal handler reads: their first use in a thread must not
// allocate.
#pragma once

#include <features.h>

// glibc allocates the thread-local variables of a loaded library at their first use, except
// initial-exec variables. musl allocates thread-local variables when it loads the library or starts
// a thread. musl does not load a library with initial-exec variables.
#ifdef __GLIBC__
#define NODE_KVM_HANDLER_STATE [[gnu::tls_model("initial-exec")]] thread_local
#else
#define NODE_KVM_HANDLER_STATE thread_local
#endif
