#include "argument.h"

#include <cstring>

#include "fd.h"
#include "host_file.h"
#include "mapping.h"
#include "value.h"

namespace node_kvm {

namespace {

constexpr size_t kFdBytes = 4;
constexpr size_t kAddressBytes = 8;

std::span<const Link> LinksAt(size_t first, size_t count) {
  return std::span<const Link>(kLinks).subspan(first, count);
}

bool Holds(const Condition& condition, std::span<const uint8_t> bytes) {
  uint64_t value = 0;
  memcpy(&value, bytes.data() + condition.offset, condition.width);  // little endian: x86
  return condition.width == 0 || value == condition.value;
}

bool IsActive(const Link& link, std::span<const uint8_t> bytes) {
  return Holds(link.when[0], bytes) && Holds(link.when[1], bytes);
}

const Command* FindCommand(uint32_t id, bool of_vcpu) {
  for (const Command& command : kCommands) {
    if (command.id == id && command.of_vcpu == of_vcpu) return &command;
  }
  return nullptr;
}

void Put(uint8_t* place, uint64_t address) { memcpy(place, &address, kAddressBytes); }

bool IsNothing(const Napi::Value& value) { return value.IsUndefined() || value.IsNull(); }

}  // namespace

bool Argument::Refuse(const std::string& complaint) {
  complaint_ = complaint;
  return false;
}

bool Argument::Fill(const IoctlShape& shape, const Napi::Value& bytes, const Napi::Value& links,
                    bool of_vcpu) {
  of_vcpu_ = of_vcpu;
  Copied made;
  if (!Copy(bytes, true, &made)) return false;
  if (!FillLinks(made, LinksAt(shape.first_link, shape.links), links)) return false;
  address_ = reinterpret_cast<uint64_t>(made.copy.data());
  copied_.push_back(std::move(made));
  return true;
}

uint64_t Argument::Address() {
  for (const File& file : files_) {
    const HostFile* host_file = UnwrapChecked<HostFile>(file.object);
    const Fd* kvm_file = UnwrapChecked<Fd>(file.object);
    const int fd = host_file != nullptr ? host_file->fd() : kvm_file->fd();
    memcpy(file.place, &fd, kFdBytes);
  }
  return address_;
}

bool Argument::Copy(const Napi::Value& original, bool copies_back, Copied* made) {
  std::span<uint8_t> bytes;
  if (!ReadBytes(original, &bytes)) return Refuse("expected a Uint8Array (not shared)");
  const GuardedCopy* copy = copies_.Copy(bytes, &refusal_);
  if (copy == nullptr) return false;
  *made = {original, copy->bytes(), copies_back, {}};
  return true;
}

bool Argument::FillLinks(Copied& target, std::span<const Link> links, const Napi::Value& values) {
  if (links.empty()) return IsNothing(values) || Refuse("it has no links");
  if (!IsNothing(values) && !values.IsArray()) return Refuse("links: expected an array");
  const bool given = values.IsArray();
  const uint32_t length = given ? values.As<Napi::Array>().Length() : 0;
  if (length > links.size()) {
    return Refuse("links: " + std::to_string(length) + " are given, it has " +
                  std::to_string(links.size()));
  }
  for (size_t i = 0; i < links.size(); ++i) {
    Napi::Value value = env_.Undefined();
    napi_value element = value;
    // A getter may throw or change the bytes, so the bytes were copied before this call.
    if (i < length &&
        napi_get_element(env_, values, static_cast<uint32_t>(i), &element) != napi_ok) {
      return Refuse("links: could not be read");
    }
    value = {env_, element};
    if (!IsActive(links[i], target.copy)) {
      if (IsNothing(value)) continue;
      return Refuse("links[" + std::to_string(i) + "]: nothing can be given there now");
    }
    if (!FillLink(target, links[i], value)) {
      return complaint_.empty() ? false : Refuse("links[" + std::to_string(i) + "]: " + complaint_);
    }
  }
  return true;
}

bool Argument::FillLink(Copied& target, const Link& link, const Napi::Value& value) {
  uint8_t* place = target.copy.data() + link.offset;
  const size_t width = link.kind == LinkKind::kFd ? kFdBytes : kAddressBytes;
  if (link.kind == LinkKind::kCommand) {
    uint32_t id = 0;
    memcpy(&id, target.copy.data(), sizeof(id));
    if (id >= (of_vcpu_ ? kVcpuCommands : kVmCommands)) {
      return Refuse("command " + std::to_string(id) + " is not one of Linux 7.2");
    }
    if (of_vcpu_ && id == kVcpuValueCommand) return IsNothing(value) || Refuse("it takes a value");
  }
  target.hidden.emplace_back(place, width);
  switch (link.kind) {
    case LinkKind::kFd:
      return FillFd(place, value);
    case LinkKind::kCommand:
      return FillCommand(target, link, value);
    case LinkKind::kBytes:
    case LinkKind::kMemory:
      return FillAddress(place, link, value);
  }
  return false;
}

bool Argument::FillFd(uint8_t* place, const Napi::Value& value) {
  const int none = -1;
  memcpy(place, &none, kFdBytes);
  if (IsNothing(value)) return true;
  if (UnwrapChecked<HostFile>(value) == nullptr && UnwrapChecked<Fd>(value) == nullptr) {
    return Refuse("expected an open file's object");
  }
  files_.push_back({place, value});
  return true;
}

bool Argument::FillAddress(uint8_t* place, const Link& link, const Napi::Value& value) {
  Put(place, 0);
  if (IsNothing(value)) return true;
  if (link.kind == LinkKind::kBytes && value.IsTypedArray()) {
    Copied made;
    if (!Copy(value, link.copies_back, &made)) return false;
    Put(place, reinterpret_cast<uint64_t>(made.copy.data()));
    copied_.push_back(std::move(made));
    return true;
  }
  if (!value.IsObject()) return Refuse("expected a Uint8Array or { memory, offset }");
  return FillMemory(place, value.As<Napi::Object>(), link.kind == LinkKind::kMemory);
}

bool Argument::FillMemory(uint8_t* place, const Napi::Object& reference, bool hold) {
  Napi::Value memory;
  Napi::Value where;
  if (!GetOwn(reference, "memory", &memory) || !GetOwn(reference, "offset", &where)) {
    return Refuse("could not be read");
  }
  const Mapping* mapping = UnwrapChecked<Mapping>(memory);
  uint64_t offset = 0;
  if (mapping == nullptr || !ReadU64(where, &offset)) {
    return Refuse("expected { memory, offset }");
  }
  const std::shared_ptr<Region>& region = mapping->region();
  if (region == nullptr) return Refuse("the memory is closed");
  if (offset >= region->size()) {
    return Refuse("offset " + std::to_string(offset) + " is beyond the memory's " +
                  std::to_string(region->size()) + " bytes");
  }
  Put(place, reinterpret_cast<uint64_t>(region->data()) + offset);
  mapped_.push_back(region);
  if (hold) held_.push_back(region);
  return true;
}

bool Argument::FillCommand(Copied& target, const Link& link, const Napi::Value& value) {
  uint8_t* place = target.copy.data() + link.offset;
  Put(place, 0);
  if (IsNothing(value)) return true;
  if (!value.IsObject()) return Refuse("expected { bytes, links }");
  Napi::Value data;
  Napi::Value links;
  const auto command_object = value.As<Napi::Object>();
  if (!GetOwn(command_object, "bytes", &data) || !GetOwn(command_object, "links", &links)) {
    return Refuse("could not be read");
  }
  Copied made;
  if (!Copy(data, true, &made)) return false;
  uint32_t id = 0;
  memcpy(&id, target.copy.data(), sizeof(id));
  const Command* command = FindCommand(id, of_vcpu_);
  if (command != nullptr && made.copy.size() < command->size) {
    return Refuse("command " + std::to_string(id) + " takes " + std::to_string(command->size) +
                  " bytes, got " + std::to_string(made.copy.size()));
  }
  const std::span<const Link> inner =
      command == nullptr ? std::span<const Link>() : LinksAt(command->first_link, command->links);
  if (!FillLinks(made, inner, links)) return false;
  Put(place, reinterpret_cast<uint64_t>(made.copy.data()));
  copied_.push_back(std::move(made));
  return true;
}

void Argument::CopyBack() {
  for (const Copied& one : copied_) {
    std::span<uint8_t> bytes;
    if (!one.copies_back || !ReadBytes(one.original, &bytes)) continue;
    if (bytes.size() != one.copy.size()) continue;  // a getter has detached or resized the buffer
    for (const std::span<uint8_t>& hidden : one.hidden) {
      const auto offset = static_cast<size_t>(hidden.data() - one.copy.data());
      memcpy(hidden.data(), bytes.data() + offset, hidden.size());
    }
    if (!bytes.empty()) memcpy(bytes.data(), one.copy.data(), bytes.size());
  }
}

}  // namespace node_kvm
