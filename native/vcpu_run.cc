#include "vcpu_run.h"

#include <sys/random.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <utility>

#include "ioctl.h"

namespace node_kvm {

namespace {

struct Tokens {
  std::mutex mutex;
  std::map<uint64_t, VcpuRun*> runs;
};

// This object is never destroyed, because a thread may still use it while the process exits.
Tokens& AllTokens() {
  static auto* tokens = new Tokens;
  return *tokens;
}

}  // namespace

VcpuRun::VcpuRun(std::shared_ptr<Descriptor> descriptor, std::shared_ptr<Region> region)
    : descriptor_(std::move(descriptor)),
      region_(std::move(region)),
      kick_(region_->data() + kRunImmediateExitOffset) {
  Tokens& tokens = AllTokens();
  const std::lock_guard lock(tokens.mutex);
  // Tokens are random, so that a wrong number cannot kick another vCPU. If no random numbers are
  // available, a counter provides the tokens.
  while (token_ == 0 || tokens.runs.contains(token_)) {
    if (getrandom(&token_, sizeof(token_), 0) != sizeof(token_)) ++token_;
  }
  tokens.runs[token_] = this;
}

bool VcpuRun::KickByToken(uint64_t token, int* error) {
  Tokens& tokens = AllTokens();
  const std::lock_guard lock(tokens.mutex);
  const auto found = tokens.runs.find(token);
  if (found == tokens.runs.end()) return false;
  *error = found->second->kick().Request(kSticky);
  return true;
}

[[gnu::hot]] int VcpuRun::Run(Caller caller, Wake* wake) {
  for (;;) {
    if (region_ == nullptr) return -EBADF;
    const int refusal = kick_.Enter(wake);
    if (refusal != 0) return refusal;
    // The result of KVM_RUN is 0 or an error.
    const auto result = static_cast<int>(CallWithInteger(fd(), kKvmRun, 0));
    kick_.Leave(wake);
    has_run_ = true;
    if (result != -EINTR) has_entered_ = true;
    if (result == -EINTR) {
      const int answer = Interrupted(caller, wake);
      if (answer != 0) return answer;
    } else if (result == -EAGAIN && caller == Caller::kOwnThread) {
      // KVM_RUN returned because a vCPU that waited for its startup IPI was woken; there is no exit
      // yet.
    } else if (result != 0 || !IsFiltered()) {
      return result;
    }
  }
}

// Returns 0 if there is no reason to end; the vCPU then runs again.
int VcpuRun::Interrupted(Caller caller, Wake* wake) {
  is_stray_ = false;
  const bool is_ours = Kick::TakeSignal();
  const uint32_t reasons = kick_.Take();
  if (reasons == kPause) return kPaused;
  if (reasons != 0 || kick_.is_immediate_exit()) return -EINTR;
  if (wake != nullptr && wake->woken.exchange(false)) return kWoken;
  // The remaining signal of a kick that was sent after the end of the previous run must not end
  // this run.
  if (caller == Caller::kOwnThread || is_ours) return 0;
  is_stray_ = true;
  return -EINTR;
}

void VcpuRun::Close() {
  {
    Tokens& tokens = AllTokens();
    const std::lock_guard lock(tokens.mutex);
    tokens.runs.erase(token_);
  }
  region_.reset();
  filter_.reset();
}

}  // namespace node_kvm
