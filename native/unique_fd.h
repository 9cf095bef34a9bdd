// Owns one file descriptor. ioctl.h has the ioctls of the descriptor.
#pragma once

#include <unistd.h>

#include <atomic>
#include <utility>

namespace node_kvm {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {
    if (fd >= 0) ++open_;
  }
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  // The number is -1 after the descriptor was closed, so that the kernel returns EBADF and never
  // uses a file of another object.
  int get() const { return fd_; }
  void Reset() {
    if (fd_ < 0) return;
    --open_;
    // Linux releases the number even if close() fails, and the caller could not handle the error.
    static_cast<void>(close(std::exchange(fd_, -1)));
  }

  // The number of open descriptors of this class in this process.
  static int open() { return open_; }

 private:
  static inline std::atomic<int> open_ = 0;
  int fd_ = -1;
};

}  // namespace node_kvm
