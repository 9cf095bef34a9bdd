// KVM_RUN of one vCPU, until an exit or a kick. It belongs to no thread and no
// environment: who calls it, on which thread, is vcpu_thread.h.
#pragma once

#include <cstdint>
#include <memory>

#include "descriptor.h"
#include "kick.h"

namespace node_kvm {

// Beyond KVM_RUN's own answers: somebody has woken the worker's event loop.
inline constexpr int kWoken = -513;

enum class Caller : uint8_t {
  kJavaScript,  // a signal of any kind ends the run: its listener waits for the event loop
  kOwnThread,   // only a kick does
};

class VcpuRun {
 public:
  VcpuRun(std::shared_ptr<Descriptor> descriptor, std::shared_ptr<Region> region);
  VcpuRun(const VcpuRun&) = delete;
  VcpuRun& operator=(const VcpuRun&) = delete;
  ~VcpuRun() = default;

  // KVM_RUN's result, -errno or kWoken.
  int Run(Caller caller, Wake* wake);
  Kick& kick() { return kick_; }

  // Gives kvm_run back; from now on every run is EBADF.
  void Close() { region_.reset(); }

 private:
  int Interrupted(Caller caller, Wake* wake);

  int fd() const { return descriptor_->fd.get(); }

  std::shared_ptr<Descriptor> descriptor_;
  std::shared_ptr<Region> region_;  // kvm_run; null once closed
  Kick kick_;
};

}  // namespace node_kvm
