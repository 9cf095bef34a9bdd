// KVM_RUN of one vCPU, until a kick or an exit that JavaScript has to look at. It belongs to no
// thread and no environment: who calls it, on which thread, is vcpu_thread.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "descriptor.h"
#include "exit_filter.h"
#include "kick.h"

namespace node_kvm {

// Beyond KVM_RUN's own answers; the kernel has no such errnos.
inline constexpr int kPaused = -512;  // it was asked to pause, and nothing else
inline constexpr int kWoken = -513;   // somebody has woken the worker's event loop

enum class Caller : uint8_t {
  kJavaScript,  // a signal of any kind ends the run: its listener waits for the event loop
  kOwnThread,   // only a kick does
};

class VcpuRun {
 public:
  VcpuRun(std::shared_ptr<Descriptor> descriptor, std::shared_ptr<Region> region);
  VcpuRun(const VcpuRun&) = delete;
  VcpuRun& operator=(const VcpuRun&) = delete;
  ~VcpuRun() { Close(); }

  // KVM_RUN's result, -errno, kPaused or kWoken.
  int Run(Caller caller, Wake* wake);
  Kick& kick() { return kick_; }

  // Not while it runs: whether KVM_RUN was called, and whether the guest surely was entered by it.
  bool has_run() const { return has_run_; }
  bool has_entered() const { return has_entered_; }
  // Not while it runs: whether a signal that nobody sent to end it has ended the last run.
  bool is_stray() const { return is_stray_; }

  // With the token, any environment of the process can kick.
  uint64_t token() const { return token_; }
  // False when the vCPU of that token is closed. `error` is 0, or tgkill's -errno.
  static bool KickByToken(uint64_t token, int* error);

  // Not while it runs. Null: every exit is JavaScript's.
  void SetFilter(std::unique_ptr<ExitFilter> filter) { filter_ = std::move(filter); }

  // Gives kvm_run and the filter back; from now on every run is EBADF, and the token nobody's.
  void Close();

 private:
  bool IsFiltered() {
    return filter_ != nullptr && filter_->Handle({region_->data(), region_->size()});
  }
  int Interrupted(Caller caller, Wake* wake);

  int fd() const { return descriptor_->fd(); }

  std::shared_ptr<Descriptor> descriptor_;
  std::shared_ptr<Region> region_;  // kvm_run; null once closed
  std::unique_ptr<ExitFilter> filter_;
  Kick kick_;
  uint64_t token_ = 0;
  bool has_run_ = false;
  bool has_entered_ = false;
  bool is_stray_ = false;
};

}  // namespace node_kvm
