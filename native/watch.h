// Watches a descriptor for readability on an environment's own loop. lib/kvm reads the descriptor
// and has the waiters.
#pragma once

#include <napi.h>

namespace node_kvm {

class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { Close(); }

  // Calls `readable` in each turn of the loop in which the descriptor is readable, until Stop.
  // Until Stop, the loop does not end, and the garbage collector keeps `readable` and all objects
  // that it references. Returns 0 or -errno. The descriptor must be the same in each call of Start.
  int Start(Napi::Env env, int fd, const Napi::Function& readable);
  void Stop();
  // Stops the watch and releases the descriptor, which must not be closed before this call.
  void Close();

 private:
  struct Poll;
  int Open(Napi::Env env, int fd);

  // The handle is in the loop from the first Start to Close. After Close, the handle deletes itself
  // when the loop has closed it.
  Poll* poll_ = nullptr;
  Napi::FunctionReference readable_;
};

}  // namespace node_kvm
