/** What an errno means for any ioctl: a dead VM, an ioctl that is not there, a count, a limit. */
import { IOCTLS } from "../abi/generated/ioctls.ts";
import type { FdKind } from "../abi/ioctl.ts";
import { sizeOfType } from "../abi/layout.ts";
import { explainNoDescriptor } from "./process.ts";
import { capability, known, type Reason, type Reasons, type Refusal } from "./refusal.ts";

const FD_NAMES: Readonly<Record<FdKind, string>> = {
  sys: "/dev/kvm",
  vm: "a VM",
  vcpu: "a vCPU",
  dev: "a device",
};

/** The reasons that any ioctl may have; asked when its own have none. */
export const GENERAL: Reasons = {
  EIO: explainEio,
  ENOTTY: (refusal) => explainAbsent(refusal) ?? explainUnknown(refusal),
  // A vCPU and /dev/kvm answer with EINVAL to what they do not know; it may be anything else, too.
  EINVAL: explainAbsent,
  EFAULT: explainFault,
  EBADF: () => "the descriptor is not open",
  EMFILE: ({ evidence: { descriptors } }) => {
    const counts = known(descriptors);
    if (counts !== undefined) return explainNoDescriptor(counts);
    return "this process has no descriptor left (RLIMIT_NOFILE, ulimit -n)";
  },
  ENFILE: () => "the system has no descriptor left (fs.file-max)",
  ENOMEM: () => "the kernel got no memory for it (the cgroup's limit counts too)",
};

/**
 * Tells a VM that the kernel killed from one of another process: KVM answers both with EIO
 * (virt/kvm/kvm_main.c: kvm->mm, kvm->vm_dead).
 */
function explainEio({ evidence: { vm } }: Refusal): string | undefined {
  if (known(vm?.isForeign) === true) return "this VM belongs to another process";
  if (known(vm?.isDead) !== true) return undefined;
  return "VM is dead: the kernel killed it, and its log (dmesg) may say why";
}

function explainAbsent({ ioctl: name, fd, evidence }: Refusal): string | undefined {
  const needed = IOCTLS.find((ioctl) => ioctl.name === name)?.capability[fd];
  if (needed === undefined || needed === null || capability(evidence, needed) !== 0) {
    return undefined;
  }
  return `${name} needs ${needed}, which is not there (KVM_CHECK_EXTENSION says 0)`;
}

/**
 * Says that the ioctl itself is missing, whatever was sent: this kind of handle never has it, or this
 * kernel does not, which a vCPU and /dev/kvm answer with EINVAL like any wrong argument.
 */
export function explainMissing(refusal: Refusal): string | undefined {
  const { ioctl: name, fd } = refusal;
  const ioctl = IOCTLS.find((one) => one.name === name);
  if (ioctl === undefined) return undefined;
  if (!ioctl.fds.includes(fd)) {
    const right = ioctl.fds.map((kind) => FD_NAMES[kind]).join(" or ");
    return `${name} is an ioctl of ${right}, not of ${FD_NAMES[fd]}`;
  }
  const isAmbiguous = (fd === "vcpu" || fd === "sys") && ioctl.since[fd] !== "6.1";
  return isAmbiguous ? explainAbsent(refusal) : undefined;
}

/** A count that reaches past the entries that were sent: an unmapped page begins there. */
function explainFault({ ioctl: name, argument }: Refusal): string | undefined {
  const { struct } = IOCTLS.find((ioctl) => ioctl.name === name) ?? {};
  const count = struct?.fields.find((field) => field.name === struct.tail?.count);
  if (!(argument instanceof Uint8Array) || struct?.tail === undefined || count === undefined) {
    return undefined;
  }
  const view = new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
  const said = view.getUint32(count.offset, true);
  const room = Math.floor(
    (argument.byteLength - struct.tail.offset) / sizeOfType(struct.tail.element),
  );
  return said > room ? `${count.name} is ${said}, but only ${room} entries were sent` : undefined;
}

/** What the oldest kernels with an ioctl come after. */
const BEFORE: Readonly<Record<string, string>> = { "6.12": "6.1", "7.2": "6.12" };

/** A VM answers with ENOTTY to what it does not know, and in general to nothing else. */
function explainUnknown({ ioctl, fd }: Refusal): string | undefined {
  const since = IOCTLS.find(({ name }) => name === ioctl)?.since[fd];
  if (fd !== "vm" || since === undefined) return undefined;
  const before = BEFORE[since];
  const when = before === undefined ? "" : `: Linux ${since} has it, ${before} has not`;
  return `this kernel has no ${ioctl} for ${FD_NAMES[fd]}${when}`;
}

/** Complains about a list with too little room, to which the kernel wrote how much it needs. */
export const listRoom: Reason = ({ argument, sent }) => {
  const { nmsrs } = sent;
  if (typeof nmsrs !== "number" || !(argument instanceof Uint8Array)) return undefined;
  const needed = new DataView(argument.buffer, argument.byteOffset).getUint32(0, true);
  return needed > nmsrs ? `nmsrs ${nmsrs}: there are ${needed}` : undefined;
};

/** KVM answers so without SEV and TDX, and for a VM that was not started as one of theirs. */
export const withoutEncryption: Reason = () =>
  "there is no memory encryption here: this KVM has none (SEV, TDX), or this VM was not initialised for it";
