// The argument of one ioctl: its struct, and the values of the struct's addresses and descriptors.
// JavaScript passes neither addresses nor descriptors; this class writes them into copies of the
// bytes.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "guarded.h"
#include "ioctl.h"
#include "refusal.h"
#include "region.h"

namespace node_kvm {

class Argument {
 public:
  Argument(Napi::Env env, GuardedCopies& copies)
      : env_(env), copies_(copies), mark_(copies.mark()) {}
  Argument(const Argument&) = delete;
  Argument& operator=(const Argument&) = delete;
  ~Argument() { copies_.Release(mark_); }

  // Prepares the argument. On failure, the function returns false. After a failure, `complaint`
  // describes the fault; if `complaint` is empty, `refusal` names the failed system call. `of_vcpu`
  // selects the commands of KVM_MEMORY_ENCRYPT_OP.
  bool Fill(const IoctlShape& shape, const Napi::Value& bytes, const Napi::Value& links,
            bool of_vcpu);
  const std::string& complaint() const { return complaint_; }
  const Refusal& refusal() const { return refusal_; }

  // Returns the argument for the kernel. The result is valid until JavaScript runs again.
  uint64_t Address();

  // Returns the struct with the kernel's result.
  std::span<uint8_t> bytes() { return copied_.back().copy; }

  // Copies the kernel's result to JavaScript, without addresses and descriptors.
  void CopyBack();

  // Returns the guest memory that the kernel uses after a successful call.
  const std::vector<std::shared_ptr<Region>>& held() const { return held_; }

 private:
  // Reading links may run JavaScript (a getter), which may detach a buffer, close a file or make
  // another ioctl. The bytes are therefore copied when they are first read, and all later reads use
  // the copy. Descriptors are written into the copy last.
  struct Copied {
    Napi::Value original;
    std::span<uint8_t> copy;
    bool copies_back;
    std::vector<std::span<uint8_t>> hidden;  // parts that JavaScript must not see
  };
  struct File {
    uint8_t* place;
    Napi::Value object;
  };

  bool FillLinks(Copied& target, std::span<const Link> links, const Napi::Value& values);
  bool FillLink(Copied& target, const Link& link, const Napi::Value& value);
  bool FillFd(uint8_t* place, const Napi::Value& value);
  bool FillAddress(uint8_t* place, const Link& link, const Napi::Value& value);
  bool FillMemory(uint8_t* place, const Napi::Object& reference, bool hold);
  bool FillCommand(Copied& target, const Link& link, const Napi::Value& value);
  bool Copy(const Napi::Value& original, bool copies_back, Copied* made);
  bool Refuse(const std::string& complaint);

  Napi::Env env_;
  GuardedCopies& copies_;
  size_t mark_;
  uint64_t address_ = 0;
  bool of_vcpu_ = false;
  std::string complaint_;
  Refusal refusal_;
  std::vector<Copied> copied_;
  std::vector<File> files_;
  std::vector<std::shared_ptr<Region>> mapped_;  // memory that the call uses
  std::vector<std::shared_ptr<Region>> held_;
};

}  // namespace node_kvm
