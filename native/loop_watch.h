// Ends the KVM_RUN of a worker that is to end. worker.terminate() and process.exit() only wake its
// event loop and then wait for it. So one thread of the process watches the loops of the workers
// that run vCPUs, and kicks.
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

  // From the worker's own thread, once; the watch ends with this object. `probe` is a function of
  // JavaScript that does nothing. After a refusal the worker is not watched.
  Refusal Start(Napi::Env env, const Napi::Function& probe);

  Wake* wake() { return &watched_.wake; }

  // Whether JavaScript is not to run any more; asked by running some.
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
