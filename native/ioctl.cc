#include "ioctl.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "thread.h"

namespace node_kvm {

namespace {

uint64_t ReadCount(const IoctlShape& shape, std::span<const uint8_t> argument) {
  uint64_t count = 0;
  memcpy(&count, argument.data() + shape.count_offset, shape.count_width);  // little endian: x86
  return count;
}

int64_t Call(int fd, uint32_t request, uint64_t argument) {
  const int result = ioctl(fd, request, argument);
  return result == -1 ? -errno : static_cast<int64_t>(static_cast<uint32_t>(result));
}

// Returns whether EINTR of this ioctl only means that a signal was received. EINTR has another
// meaning for two ioctls: a kick ends KVM_RUN with EINTR, and KVM_GET_TSC_KHZ returns a frequency
// as an int, so a frequency of 4294967292 kHz equals -EINTR.
bool MeansSignal(uint32_t request) { return request != kKvmRun && request != kKvmGetTscKhz; }

}  // namespace

const IoctlShape* FindShape(uint32_t request) {
  const auto* shape = std::lower_bound(
      std::begin(kIoctlShapes), std::end(kIoctlShapes), request,
      [](const IoctlShape& candidate, uint32_t wanted) { return candidate.request < wanted; });
  return shape != std::end(kIoctlShapes) && shape->request == request ? shape : nullptr;
}

std::string CheckArgument(const IoctlShape& shape, std::span<const uint8_t> argument,
                          bool past_end) {
  const std::string name = shape.name;
  if (argument.size() < shape.size) {
    return name + " takes " + std::to_string(shape.size) + " bytes, got " +
           std::to_string(argument.size());
  }
  if (shape.kind != Kind::kTailed || past_end) return "";
  const uint64_t count = ReadCount(shape, argument);
  const uint64_t room = (argument.size() - shape.size) / shape.entry_size;
  if (count <= room) return "";
  return name + " says " + std::to_string(count) + " entries of " +
         std::to_string(shape.entry_size) + " bytes, but its argument has room for " +
         std::to_string(room);
}

[[gnu::hot]] int64_t CallWithInteger(int fd, uint32_t request, uint64_t argument) {
  const int64_t answer = Call(fd, request, argument);
  if (answer != -EINTR || !MeansSignal(request)) return answer;
  // The signals are blocked during this call, because signals that arrive often could also
  // interrupt a retry.
  const BlockedSignals blocked;
  return Call(fd, request, argument);
}

}  // namespace node_kvm
