// Interrupts the KVM_RUN of a worker that is terminated. worker.terminate() and process.exit() only
// wake the worker's event loop and then wait for it. One thread of the process watches the event
// loops of all workers that run vCPUs. If a loop was woken, the thread kicks the worker's vCPU.
#pragma once

#include <napi.h>

#include "kick.h"
#include "refusal.h"

namespace node_kvm {

class LoopWatch {
 public:
  LoopWatch() = default;
  LoopWatch(const LoopWatch&) = delete;
  LoopWatch& operator=(const LoopWatch&) = delete;
  ~LoopWatch();

  // Call this function once on the worker's thread. The destructor of this object ends the watch.
  // `probe` is a JavaScript function that does nothing. After an error, the worker is not watched.
  Refusal Start(Napi::Env env, const Napi::Function& probe);

  Wake* wake() { return &watched_.wake; }

  // Returns whether the environment can no longer run JavaScript; the function calls `probe` to
  // determine this.
  bool IsEnvironmentEnding(Napi::Env env);

  struct Watched {
    Wake wake;
    int loop_fd = -1;
  };

 private:
  Watched watched_;
  Napi::FunctionReference probe_;
};

}  // namespace node_kvm
