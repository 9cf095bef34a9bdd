// A worker that is in KVM_RUN does not see that it is to end: worker.terminate() and process.exit()
// only wake its event loop, and then wait for it. So one thread of the process watches the loops of
// workers that run vCPUs, and kicks.
#pragma once

#include <napi.h>

#include "kick.h"

namespace node_kvm {

class LoopWatch {
 public:
  // From the worker's own thread. `probe` is a function of JavaScript that does nothing.
  LoopWatch(Napi::Env env, const Napi::Function& probe);
  LoopWatch(const LoopWatch&) = delete;
  LoopWatch& operator=(const LoopWatch&) = delete;
  ~LoopWatch();

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
