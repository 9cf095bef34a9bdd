// Reports to V8's garbage collector how much memory this addon's objects use outside of V8's heap.
// Without these reports, V8 counts only the small JavaScript objects. mapping.cc computes the
// amounts for mappings. wrap.h calls V8, because the code that runs vCPUs is also compiled without
// Node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace node_kvm {

// Each environment has one object of this class. Objects that report their memory share its
// ownership, and may outlive the environment.
class ExternalMemory {
 public:
  // The size that is reported for an open descriptor. A VM and a vCPU use 100 to 200 KiB of kernel
  // memory each. V8 starts a collection when external memory has grown by 64 MiB (Node 20 to 26).
  // With this size, a collection starts after at most 256 unreachable descriptors, while the usual
  // limit of descriptors is 1024.
  static constexpr size_t kDescriptorBytes = size_t{256} << 10;

  // Adds bytes, or subtracts them; returns false if V8 rejected the change.
  using Adjust = std::function<bool(int64_t bytes)>;

  explicit ExternalMemory(Adjust adjust) : adjust_(std::move(adjust)) {}

  // The function also returns false after the end of the environment.
  bool Change(int64_t bytes) { return adjust_ != nullptr && adjust_(bytes); }
  void EndEnvironment() { adjust_ = nullptr; }

 private:
  Adjust adjust_;
};

// The amount that one object has reported; the destructor of this class subtracts it. Use this
// class on the environment's thread.
class Reported {
 public:
  Reported() = default;
  Reported(std::shared_ptr<ExternalMemory> to, size_t bytes) : to_(std::move(to)) { Set(bytes); }
  Reported(Reported&& other) noexcept
      : to_(std::move(other.to_)), bytes_(std::exchange(other.bytes_, 0)) {}
  Reported& operator=(Reported&& other) noexcept {
    if (this != &other) {
      Set(0);
      to_ = std::move(other.to_);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  Reported(const Reported&) = delete;
  Reported& operator=(const Reported&) = delete;
  ~Reported() { Set(0); }

  size_t bytes() const { return bytes_; }
  void Set(size_t bytes) {
    if (to_ == nullptr || bytes == bytes_) return;
    if (to_->Change(static_cast<int64_t>(bytes) - static_cast<int64_t>(bytes_))) bytes_ = bytes;
  }

 private:
  std::shared_ptr<ExternalMemory> to_;
  size_t bytes_ = 0;
};

}  // namespace node_kvm
