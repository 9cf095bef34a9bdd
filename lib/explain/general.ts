/**
 * The causes of errors that can occur in any call: a dead VM, a missing ioctl, a wrong count, an exhausted resource.
 */
import { isBytes } from "../abi/bytes.ts";
import { IOCTLS } from "../abi/generated/ioctls.ts";
import type { FdKind } from "../abi/ioctl.ts";
import { sizeOfType } from "../abi/layout.ts";
import { explainNoDescriptor } from "./process.ts";
import { capability, known, type Reasons, type Refusal, type Rule, type Rules } from "./refusal.ts";
import { claim, fault, only, open } from "./verdict.ts";

const FD_NAMES: Readonly<Record<FdKind, string>> = {
  sys: "/dev/kvm",
  vm: "a VM",
  vcpu: "a vCPU",
  dev: "a device",
};

const MISSING_CAPABILITY = "missing capability";

/** The causes that any call can have. These causes are judged after the causes of the specific call. */
export const GENERAL: Reasons = {
  EIO: {
    // virt/kvm/kvm_main.c:kvm_vm_ioctl, kvm_vcpu_ioctl and kvm_device_ioctl check kvm->mm and kvm->vm_dead
    "VM of another process": ({ evidence: { vm } }) =>
      fault(known(vm?.isForeign) === true ? "this VM belongs to another process" : undefined),
    "dead VM": ({ evidence: { vm } }) =>
      fault(
        known(vm?.isDead) === true
          ? "VM is dead: the kernel disabled it, and its log (dmesg) may contain the cause"
          : undefined,
      ),
  },
  ENOTTY: {
    [MISSING_CAPABILITY]: (refusal) => fault(absent(refusal)),
    "unknown ioctl": (refusal) => fault(explainUnknown(refusal)),
  },
  // A VM returns EINVAL for many causes of an ioctl that it implements, even if the capability is 0.
  EINVAL: { [MISSING_CAPABILITY]: (refusal) => open(absent(refusal)) },
  EFAULT: { "count past the entries": (refusal) => fault(explainFault(refusal)) },
  EBADF: {
    "bad descriptor in the struct": ({ links = [] }) =>
      open(
        links.length > 0 ? "an argument is a file of another kind than KVM requires" : undefined,
      ),
  },
  EMFILE: {
    "descriptors of the process": ({ evidence: { descriptors } }) => {
      const counts = known(descriptors);
      const text =
        counts === undefined
          ? "this process has no descriptor left (RLIMIT_NOFILE, ulimit -n)"
          : explainNoDescriptor(counts);
      return only("fs/file.c:alloc_fd", text);
    },
  },
  ENFILE: {
    "descriptors of the system": () =>
      only("fs/file_table.c:alloc_empty_file", "the system has no descriptor left (fs.file-max)"),
  },
  ENOMEM: {
    memory: () => open("the kernel has no memory for this call (the cgroup's limit counts too)"),
    "limit of the process": () => open("a limit of this process is reached (ulimit -v, ulimit -l)"),
  },
};

function absent({ ioctl: name, fd, evidence }: Refusal): string | undefined {
  const ioctl = IOCTLS.find((one) => one.name === name);
  const needed = fd === undefined ? undefined : ioctl?.capability[fd];
  if (needed === undefined || needed === null || capability(evidence, needed) !== 0) {
    return undefined;
  }
  return `${name} needs ${needed}, which is missing (KVM_CHECK_EXTENSION returns 0)`;
}

/**
 * The causes that are judged first: this kind of handle never implements the ioctl, or this kernel does not have the
 * ioctl.
 */
export const MISSING: Rules = {
  "wrong kind of handle": ({ ioctl: name, fd }) => {
    const ioctl = IOCTLS.find((one) => one.name === name);
    if (ioctl === undefined || fd === undefined || ioctl.fds.includes(fd)) return undefined;
    const right = ioctl.fds.map((kind) => FD_NAMES[kind]).join(" or ");
    return fault(`${name} is an ioctl of ${right}, not of ${FD_NAMES[fd]}`);
  },
  // A vCPU and /dev/kvm return EINVAL for an unknown ioctl, as for any wrong argument.
  "missing on a vCPU or /dev/kvm": (refusal) => {
    const { ioctl: name, fd } = refusal;
    const since = IOCTLS.find((one) => one.name === name)?.since;
    const isAmbiguous = (fd === "vcpu" || fd === "sys") && since?.[fd] !== "6.1";
    return isAmbiguous ? fault(absent(refusal)) : undefined;
  },
};

/** Finds a count that is larger than the number of passed entries; an unmapped page follows the entries. */
function explainFault({ ioctl: name, argument }: Refusal): string | undefined {
  const { struct } = IOCTLS.find((ioctl) => ioctl.name === name) ?? {};
  const tail = struct?.tail;
  const count = struct?.fields.find((field) => field.name === tail?.count);
  if (!isBytes(argument) || tail === undefined || count === undefined) return undefined;
  if (argument.byteLength < tail.offset) return undefined;
  const said = new DataView(argument.buffer, argument.byteOffset).getUint32(count.offset, true);
  const room = Math.floor((argument.byteLength - tail.offset) / sizeOfType(tail.element));
  return said > room ? `${count.name} is ${said}, but only ${room} entries were passed` : undefined;
}

/** The last kernel version without an ioctl that a later version added. */
const BEFORE: Readonly<Record<string, string>> = { "6.12": "6.1", "7.2": "6.12" };

/** A VM returns ENOTTY almost only for an unknown ioctl. */
function explainUnknown({ ioctl, fd }: Refusal): string | undefined {
  if (fd !== "vm") return undefined;
  const since = IOCTLS.find(({ name }) => name === ioctl)?.since[fd];
  if (since === undefined) return undefined;
  const before = BEFORE[since];
  const when = before === undefined ? "" : `: Linux ${since} has it, ${before} does not`;
  return `this kernel has no ${ioctl} for ${FD_NAMES[fd]}${when}`;
}

/** Judges a list that is too short; the kernel has written the required count into the struct. */
export const listRoom: Rule = ({ argument, sent }) => {
  const { nmsrs } = sent;
  if (typeof nmsrs !== "number" || !isBytes(argument) || argument.byteLength < 4) return undefined;
  const needed = new DataView(argument.buffer, argument.byteOffset).getUint32(0, true);
  return claim(needed > nmsrs, `nmsrs ${nmsrs}: there are ${needed}`);
};

/** KVM returns ENOTTY if it supports neither SEV nor TDX, and for a VM that was not initialised for SEV or TDX. */
export const ENCRYPTION: Reasons = {
  ENOTTY: {
    "KVM without encryption": () => open("this KVM has no memory encryption (SEV, TDX)"),
    "VM without encryption": () => open("this VM was not initialised for memory encryption"),
  },
};
