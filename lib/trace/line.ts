/** Formats a step as one line in strace's format. ndjson.ts formats JSON. */
import { EXIT_UNION_OFFSET, exitName, exitRow } from "../abi/exits.ts";
import { IOCTLS } from "../abi/generated/ioctls.ts";
import { KVM_CAPABILITIES, KVM_INTERNAL_ERRORS } from "../abi/generated/names.ts";
import { Run } from "../abi/generated/structs.ts";
import type { FdKind, Ioctl } from "../abi/ioctl.ts";
import { errnoName } from "../errors.ts";
import { type Leaf, leafBytes, leafValue, leavesOf } from "./leaf.ts";
import type { IoctlStep, ObjectRef, RunStep, Step } from "./record.ts";

/** The maximum number of nonzero fields of a struct that are printed. */
const MOST_FIELDS = 12;

/**
 * Returns the C name of a constant's number. The tables are searched linearly, because building a Map of each table
 * would slow down the import of the package.
 */
function nameOf(table: Readonly<Record<string, number>>, number: number): string | undefined {
  return Object.entries(table).find(([, value]) => value === number)?.[0];
}

/**
 * Finds an ioctl by its whole request number and the kind of its descriptor. If this kind has no such ioctl, an ioctl
 * of another kind with the same number is returned.
 */
export function ioctlOf(request: number, fd: ObjectRef): Ioctl | undefined {
  const all = IOCTLS.filter((ioctl) => ioctl.request === request);
  return all.find(({ fds }) => fds.includes(fd.kind as FdKind)) ?? all[0];
}

/** Returns the C name of a capability; its number if this package does not know it. */
export function capabilityName(number: number): string {
  return nameOf(KVM_CAPABILITIES, number) ?? String(number);
}

/** Formats a step as strace would: `KVM_SET_CPUID2(vcpu 0, nent=75) = -1 EINVAL`. */
export function toLine(step: Step): string {
  switch (step.kind) {
    case "open":
      return `open(${JSON.stringify(step.path)}) = ${resultText(step.result)}`;
    case "ioctl":
      return ioctlLine(step);
    case "run":
      return runLine(step);
    case "eventfd":
      return `eventfd(${step.initval}) = ${step.made?.label ?? resultText(step.result)}`;
    case "file":
      return `open(${JSON.stringify(step.path)}) = ${step.made?.label ?? resultText(step.result)}`;
    case "counter": {
      const said = step.call === "write" || step.result === 0 ? [numberText(step.value)] : [];
      const result = step.result < 0 ? resultText(step.result) : "8";
      return `${step.call}(${[step.fd.label, ...said].join(", ")}) = ${result}`;
    }
    case "fallocate": {
      const range = [step.offset, step.length].map(numberText).join(", ");
      return `fallocate(${step.fd.label}, ${step.mode}, ${range}) = ${resultText(step.result)}`;
    }
    case "map": {
      const of = step.fd === undefined ? "" : ` of ${step.fd.label}`;
      return `mmap(memory ${step.memory}${of}, ${step.byteLength} bytes) = 0`;
    }
    case "write": {
      const count = step.ranges.reduce((sum, { bytes }) => sum + bytes.length, 0);
      return `(${count} bytes of guest memory written)`;
    }
    case "permission":
      return `arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, ${step.component}) = ${resultText(step.result)}`;
    case "close":
      return `close(${step.fd.label}) = 0`;
    default:
      return step satisfies never;
  }
}

function resultText(result: number): string {
  return result < 0 ? `-1 ${errnoName(-result)}` : String(result);
}

function ioctlLine(step: IoctlStep): string {
  const ioctl = ioctlOf(step.request, step.fd);
  const name = ioctl?.name ?? `ioctl 0x${step.request.toString(16)}`;
  const argument = argumentText(step, ioctl);
  const call = `${name}(${[step.fd.label, ...argument].join(", ")})`;
  if (step.made !== undefined) return `${call} = ${step.made.label}`;
  const answer = step.result < 0 ? [] : answerText(step, ioctl);
  return `${call} = ${[resultText(step.result), ...answer].join(" ")}`;
}

function argumentText(step: IoctlStep, ioctl: Ioctl | undefined): readonly string[] {
  const { before } = step;
  if (before === undefined) return [];
  if (typeof before === "bigint") {
    const isCapability = ioctl?.name === "KVM_CHECK_EXTENSION";
    return [isCapability ? capabilityName(Number(before)) : numberText(before)];
  }
  // If the kernel only writes a struct, only its count is printed.
  const shown = ioctl?.direction === "out" ? [] : fieldsText(ioctl, before);
  return shown.length === 0 ? [] : [shown.join(", ")];
}

function answerText(step: IoctlStep, ioctl: Ioctl | undefined): readonly string[] {
  const { after } = step;
  if (after === undefined || ioctl === undefined || ioctl.direction === "in") return [];
  const shown = fieldsText(ioctl, after);
  return shown.length === 0 ? [] : [`{${shown.join(", ")}}`];
}

/** Writes the nonzero fields of a struct as `name=value`. */
function fieldsText(ioctl: Ioctl | undefined, bytes: Uint8Array): readonly string[] {
  const layout = ioctl?.struct;
  if (layout === undefined) return [`${bytes.length} bytes`];
  const texts = leavesText(leavesOf(layout), bytes, 0);
  return texts.length <= MOST_FIELDS ? texts : [...texts.slice(0, MOST_FIELDS), "..."];
}

function leavesText(leaves: readonly Leaf[], bytes: Uint8Array, base: number): readonly string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return leaves.flatMap((leaf) => {
    const end = leaf.offset - base + leafBytes(leaf);
    if (leaf.offset < base || end > bytes.length) return [];
    const values = Array.from({ length: leaf.count ?? 1 }, (_, i) =>
      leafValue(leaf, view, -base, i),
    );
    if (values.every((value) => value === 0n)) return [];
    const text = leafText(leaf, values);
    return [`${leaf.path}=${text}`];
  });
}

function leafText(leaf: Leaf, values: readonly bigint[]): string {
  if (leaf.path === "cap") return capabilityName(Number(values[0]));
  if (leaf.path === "internal.suberror") {
    return nameOf(KVM_INTERNAL_ERRORS, Number(values[0])) ?? String(values[0]);
  }
  if (leaf.count === undefined) return numberText(values[0] ?? 0n);
  const some = values.slice(0, 4).map(numberText);
  return `[${[...some, ...(values.length > 4 ? ["..."] : [])].join(" ")}]`;
}

function numberText(value: bigint): string {
  return value > -10n && value < 1000n ? String(value) : `0x${value.toString(16)}`;
}

function runLine(step: RunStep): string {
  const call = `KVM_RUN(${step.fd.label}) = ${resultText(step.result)}`;
  // If KVM_RUN returns an errno, kvm_run contains an old exit, except for KVM_EXIT_MEMORY_FAULT (api.rst 5).
  if (step.result < 0 && exitName(step.exitReason) !== "KVM_EXIT_MEMORY_FAULT") return call;
  const names = exitRow(step.exitReason)?.fields ?? [];
  const leaves = leavesOf(Run).filter(({ path }) => names.includes(path));
  return [
    call,
    exitName(step.exitReason),
    leavesText(leaves, step.exit, EXIT_UNION_OFFSET).join(", "),
  ]
    .join(" ")
    .trimEnd();
}
