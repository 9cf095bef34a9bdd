// Owns one file descriptor. What the descriptor may be asked is ioctl.h.
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

  // -1 once closed: the kernel then answers EBADF, never another object's data.
  int get() const { return fd_; }
  void Reset() {
    if (fd_ < 0) return;
    --open_;
    // Linux gives the number back even when close() fails, and no caller could do anything else.
    static_cast<void>(close(std::exchange(fd_, -1)));
  }

  // How many are open in this process.
  static int open() { return open_; }

 private:
  static inline std::atomic<int> open_ = 0;
  int fd_ = -1;
};

}  // namespace node_kvm
