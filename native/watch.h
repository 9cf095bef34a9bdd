// Waits on an environment's own loop for a descriptor that can be read. Reading it, and who waits
// for what, is lib/kvm.
#pragma once

#include <napi.h>

namespace node_kvm {

class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { Close(); }

  // Has `readable` called in each turn of the loop in which there is something to read, until Stop.
  // Meanwhile the loop goes on, and `readable` is kept from the garbage collector with whatever it
  // reaches. 0 or -errno. The descriptor is the same each time.
  int Start(Napi::Env env, int fd, const Napi::Function& readable);
  void Stop();
  // Also lets go of the descriptor, which must not be closed before.
  void Close();

 private:
  struct Poll;
  int Open(Napi::Env env, int fd);

  // In the loop from the first Start to Close; then it owns itself until the loop lets go of it.
  Poll* poll_ = nullptr;
  Napi::FunctionReference readable_;
};

}  // namespace node_kvm
