#include "vcpu_run.h"

#include <cerrno>
#include <utility>

#include "ioctl.h"

namespace node_kvm {

VcpuRun::VcpuRun(std::shared_ptr<Descriptor> descriptor, std::shared_ptr<Region> region)
    : descriptor_(std::move(descriptor)),
      region_(std::move(region)),
      kick_(region_->data() + kRunImmediateExitOffset) {}

int VcpuRun::Run(Caller caller, Wake* wake) {
  for (;;) {
    if (region_ == nullptr) return -EBADF;
    kick_.Enter(wake);
    const int result = CallWithInteger(fd(), kKvmRun, 0);
    kick_.Leave(wake);
    if (result == -EINTR) {
      const int answer = Interrupted(caller, wake);
      if (answer != 0) return answer;
    } else if (result == -EAGAIN && caller == Caller::kOwnThread) {
      // A CPU that waits for its start was woken, and has none yet.
    } else {
      return result;
    }
  }
}

// 0: it was nothing, run on.
int VcpuRun::Interrupted(Caller caller, Wake* wake) {
  const bool is_ours = Kick::TakeSignal();
  if (kick_.Take() != 0 || kick_.is_immediate_exit()) return -EINTR;
  if (wake != nullptr && wake->woken.exchange(false)) return kWoken;
  // What is left of a kick that came too late is not for this run.
  return caller == Caller::kOwnThread || is_ours ? 0 : -EINTR;
}

}  // namespace node_kvm
