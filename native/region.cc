#include "region.h"

namespace node_kvm {

namespace {

std::shared_ptr<Region> Adopt(void* address, size_t length, std::shared_ptr<void> keeps) {
  if (address == MAP_FAILED) return nullptr;
  return std::make_shared<Region>(std::make_shared<Range>(static_cast<uint8_t*>(address), length),
                                  std::move(keeps));
}

}  // namespace

std::shared_ptr<Region> Region::Anonymous(size_t length) {
  return Adopt(mmap(nullptr, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
               length, nullptr);
}

std::shared_ptr<Region> Region::OfDescriptor(int fd, size_t offset, size_t length,
                                             std::shared_ptr<void> keeps) {
  return Adopt(
      mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset)),
      length, std::move(keeps));
}

Region::~Region() {
  if (range_.use_count() == 1) return;  // no window left: the range unmaps itself
  // On failure the old pages stay until the range goes: late, but safe.
  // NOLINTNEXTLINE(bugprone-unused-return-value)
  static_cast<void>(mmap(data(), size(), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0));
}

}  // namespace node_kvm
