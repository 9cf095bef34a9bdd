// KVM_RUN of one vCPU, until a kick or an exit that JavaScript must handle. This class is bound to
// no thread and no environment; vcpu_thread.h calls it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "descriptor.h"
#include "exit_filter.h"
#include "kick.h"

namespace node_kvm {

// Additional results of a run; the kernel has no errnos with these numbers.
inline constexpr int kPaused = -512;  // a pause has interrupted the run
inline constexpr int kWoken = -513;   // another thread has woken the worker's event loop

enum class Caller : uint8_t {
  kJavaScript,  // every signal ends the run, so that its listener can run
  kOwnThread,   // only a kick ends the run
};

class VcpuRun {
 public:
  VcpuRun(std::shared_ptr<Descriptor> descriptor, std::shared_ptr<Region> region);
  VcpuRun(const VcpuRun&) = delete;
  VcpuRun& operator=(const VcpuRun&) = delete;
  ~VcpuRun() { Close(); }

  // Returns KVM_RUN's result, -errno, kPaused or kWoken.
  int Run(Caller caller, Wake* wake);
  Kick& kick() { return kick_; }

  // Returns whether KVM_RUN was called, and whether the vCPU has certainly entered the guest. Call
  // this function only between runs.
  bool has_run() const { return has_run_; }
  bool has_entered() const { return has_entered_; }
  // Returns whether a signal that is not a kick has ended the last run. Call this function only
  // between runs.
  bool is_stray() const { return is_stray_; }

  // Any environment of the process can kick a vCPU by its token.
  uint64_t token() const { return token_; }
  // Returns false if no open vCPU has the token. `error` is 0, or tgkill's -errno.
  static bool KickByToken(uint64_t token, int* error);

  // Sets the filter; without a filter, JavaScript handles every exit. Call this function only
  // between runs.
  void SetFilter(std::unique_ptr<ExitFilter> filter) { filter_ = std::move(filter); }

  // Releases kvm_run and the filter; afterwards every run returns EBADF, and the token is invalid.
  void Close();

 private:
  bool IsFiltered() {
    return filter_ != nullptr && filter_->Handle({region_->data(), region_->size()});
  }
  int Interrupted(Caller caller, Wake* wake);

  int fd() const { return descriptor_->fd(); }

  std::shared_ptr<Descriptor> descriptor_;
  std::shared_ptr<Region> region_;  // kvm_run; the pointer is null after the vCPU was closed
  std::unique_ptr<ExitFilter> filter_;
  Kick kick_;
  uint64_t token_ = 0;
  bool has_run_ = false;
  bool has_entered_ = false;
  bool is_stray_ = false;
};

}  // namespace node_kvm
