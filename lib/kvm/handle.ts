/** What every KVM handle has: one descriptor, the door to its ioctls, and an end. */
import { isBytes, plainBytes } from "../abi/bytes.ts";
import type { FdKind, Ioctl } from "../abi/ioctl.ts";
import { borrow, borrowEncoded, type Scratch } from "../abi/scratch.ts";
import { encode, type Layout, readView, type StructInput, write } from "../abi/struct.ts";
import {
  refusePartial,
  refuseShortArrays,
  refuseWithout,
  type StructWith,
  type WholeStruct,
} from "../abi/whole.ts";
import { type KvmError, StateError } from "../errors.ts";
import type { Evidence } from "../explain/index.ts";
import { inspectAs } from "../inspect.ts";
import { expectNative, isRefusal, type NativeFd } from "../native.ts";
import {
  refuseMissing,
  refuseNonBooleans,
  refuseUnknown,
  toU64,
  type WideInteger,
} from "../options.ts";
import "../trace/file.ts";
import { toLine } from "../trace/line.ts";
import type { ObjectKind } from "../trace/record.ts";
import { traceAnswer, traceCall, traceClose, traced } from "../trace/sink.ts";
import type { Traced } from "../trace/traced.ts";
import {
  forgetFile,
  type LinkValue,
  type OpenFile,
  registerFile,
  toNativeLinks,
  toTraceLinks,
} from "./link.ts";
import { methodOf } from "./method-name.ts";
import { isExplained, type RefusedCall, refused } from "./refused.ts";

/** What an error about missing fields ends with: how to change some fields only. */
const READ_FIRST = "; read the state first and change that";
const REMEDIES: ReadonlyMap<string, string> = new Map(
  ["REGS", "SREGS", "SREGS2", "FPU", "DEBUGREGS", "VCPU_EVENTS"].map((name) => {
    const update = methodOf(`KVM_SET_${name}`).replace(/^set/, "update");
    return [`KVM_SET_${name}`, `; ${update} changes some fields only`];
  }),
);

/** What makes an object of each class, by its name; a subclass of a program's own has none. */
const MAKERS: ReadonlyMap<string, string> = new Map([
  ["Kvm", "Kvm.open()"],
  ["Vm", "kvm.createVm()"],
  ["Vcpu", "vm.createVcpu()"],
  ["Device", "vm.createDevice()"],
  ["GuestMemfd", "vm.createGuestMemfd()"],
  ["Stats", "vm.getStatsFd() or vcpu.getStatsFd()"],
]);

function makersOf(made: { readonly name: string }): string {
  return MAKERS.get(made.name) ?? "Kvm.open(), kvm.createVm(), vm.createVcpu(), vm.createDevice()";
}

/** What an ioctl may be given: an integer, or the bytes of its struct (changed in place). */
export type IoctlArgument = number | bigint | Uint8Array;

/** What a refused call is reported with. */
export interface CallContext {
  /** What was sent, for the error, under KVM's own names. */
  readonly args?: Readonly<Record<string, unknown>>;
  /** Says what the caller knows of the cause, where no better reason is found; false: no reason is looked for. */
  readonly explain?: false | ((errno: number) => string | undefined);
  /** Lets a count reach past the argument's end, where an unmapped page begins. */
  readonly pastEnd?: boolean;
  /** What fills the struct's addresses and descriptors, in the order of `ioctl.links`. */
  readonly links?: readonly LinkValue[];
}

/**
 * An open KVM file descriptor.
 *
 * Each handle owns one descriptor and closes just that one. The kernel keeps a VM alive while its
 * VM, a vCPU or a device is still open, so any order of closing is safe.
 */
export abstract class Handle implements OpenFile {
  /** What this handle is called in errors: `"/dev/kvm"`, `"vm"`, `"vcpu 0"`. */
  readonly label: string;
  /** What traces call it. @internal */
  protected readonly traced: Traced;
  #fd: NativeFd | undefined;
  #explain: boolean | undefined;

  /** Takes over a descriptor. */
  protected constructor(fd: NativeFd, label: string) {
    expectNative(fd, "mapRun", new.target, makersOf(new.target));
    this.#fd = fd;
    this.label = label;
    this.traced = traced(fd, label);
    registerFile(this, fd);
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#fd === undefined;
  }

  /**
   * Whether refused calls of this handle get a reason: as long as nothing was set, what the handle above
   * says (the VM of a vCPU, the KVM of a VM), and at last `$NODE_KVM_EXPLAIN`, which is 0 for no.
   *
   * A reason may cost ioctls; docs/errors.md lists them. None of them changes what later calls see.
   */
  get explain(): boolean {
    return this.#explain ?? this.above()?.explain ?? isExplained();
  }

  /** Sets it, for this handle and those below it that nothing was set for. */
  set explain(value: boolean) {
    refuseNonBooleans(this.label, { explain: value }, ["explain"]);
    this.#explain = value;
  }

  /** The descriptor, while it is open. */
  protected get fd(): NativeFd {
    if (this.#fd === undefined) throw new StateError("ERR_CLOSED", this.label);
    return this.#fd;
  }

  /**
   * Issues one ioctl with an argument of your own making, through the checked door: the bytes must
   * be as many as the struct has (and as its count says), their content is yours. The kernel's
   * answer is written into them.
   *
   * What is written where a struct holds an address or a descriptor is replaced: `context.links`
   * says by what. Memory slots cannot be set this way; `vm.setUserMemoryRegion` can.
   *
   * @returns the kernel's result, zero or more.
   * @throws {@link KvmError} with the kernel's errno.
   */
  ioctl(ioctl: Ioctl, argument?: IoctlArgument, context: CallContext = {}): number {
    return this.expectNumber(ioctl, this.call(ioctl, argument, context));
  }

  /** Issues an ioctl whose result may be a descriptor or a number. */
  protected call(
    ioctl: Ioctl,
    given: IoctlArgument | undefined,
    context: CallContext = {},
  ): number | NativeFd {
    refuseUnknownContext(context);
    const { pastEnd = false, links: values } = context;
    const links = values && toNativeLinks(ioctl, values);
    const { fd } = this;
    // Traces and explain/ see no subclass and no other realm's array.
    const argument = toArgument(ioctl, given);
    const call = traceCall(this.traced, ioctl, argument, toTraceLinks(ioctl, values));
    const answer = fd.ioctl(ioctl.request, argument, pastEnd, links);
    // The descriptor that the ioctl made is closed by now.
    traceAnswer(call, isRefusal(answer) ? -answer.errno : answer);
    if (isRefusal(answer)) throw this.refusal(answer.call, answer.errno, context, argument);
    if (typeof answer === "number" && answer < 0) {
      throw this.refusal(ioctl.name, -answer, context, argument);
    }
    this.taken(ioctl, argument, context);
    return answer;
  }

  /** Issues an ioctl whose result is a new descriptor. */
  protected openFd(ioctl: Ioctl, argument?: IoctlArgument, context: CallContext = {}): NativeFd {
    const answer = this.call(ioctl, argument, context);
    if (typeof answer === "number") throw new TypeError(`${ioctl.name} returns no descriptor`);
    return answer;
  }

  /** Asks for a struct. */
  protected getStruct<T>(ioctl: Ioctl<T>, layout: Layout<T>): T {
    const scratch = borrow(layout);
    try {
      this.ioctl(ioctl, scratch.bytes);
      return readView(layout, scratch.view);
    } finally {
      scratch.isFree = true;
    }
  }

  /** Sends a struct, of which `needs` are the fields that cannot be left out. */
  protected setStruct<T, K extends keyof T & string = never>(
    ioctl: Ioctl<T>,
    layout: Layout<T>,
    value: StructWith<NoInfer<T>, NoInfer<K>>,
    needs: readonly K[] = [],
    context: CallContext = { args: argsOf(value) },
  ): number {
    const scratch = borrowNeeding(ioctl, layout, value, needs);
    try {
      return this.ioctl(ioctl, scratch.bytes, context);
    } finally {
      scratch.isFree = true;
    }
  }

  /** Sends a struct that replaces a state as a whole. */
  protected setWhole<T>(
    ioctl: Ioctl<T>,
    layout: Layout<T>,
    value: WholeStruct<NoInfer<T>>,
  ): number {
    const where = methodOf(ioctl.name);
    const scratch = borrowEncoded<T>(layout, value as StructInput<T>, where);
    try {
      refusePartial(where, layout, value as object, REMEDIES.get(ioctl.name) ?? READ_FIRST);
      return this.ioctl(ioctl, scratch.bytes, { args: argsOf(value) });
    } finally {
      scratch.isFree = true;
    }
  }

  /** Changes some fields of a state: reads it, writes the fields that `patch` names, sends it. */
  protected updateStruct<T>(
    get: Ioctl<T>,
    set: Ioctl<T>,
    layout: Layout<T>,
    patch: StructInput<NoInfer<T>>,
  ): void {
    const where = methodOf(set.name).replace(/^set/, "update");
    // A patch that is wrong must be refused before anything is asked of the kernel.
    encode(layout, patch, where);
    refuseShortArrays(where, layout, patch as object);
    const scratch = borrow(layout);
    try {
      this.ioctl(get, scratch.bytes);
      write(layout, patch, scratch.bytes, 0, where);
      this.ioctl(set, scratch.bytes, { args: argsOf(patch) });
    } finally {
      scratch.isFree = true;
    }
  }

  /** Sends a struct that comes back changed. */
  protected exchangeStruct<T, K extends keyof T & string = never>(
    ioctl: Ioctl<T>,
    layout: Layout<T>,
    value: StructWith<NoInfer<T>, NoInfer<K>>,
    needs: readonly K[] = [],
  ): T {
    const scratch = borrowNeeding(ioctl, layout, value, needs);
    try {
      this.ioctl(ioctl, scratch.bytes, { args: argsOf(value) });
      return readView(layout, scratch.view);
    } finally {
      scratch.isFree = true;
    }
  }

  /** Refuses a list of structs of which one lacks some of the fields that it needs. */
  protected expectEach(
    ioctl: Ioctl,
    name: string,
    list: readonly object[],
    needs: readonly string[],
  ): void {
    // What is no array is refused where it is encoded.
    for (const [i, element] of (Array.isArray(list) ? list : []).entries()) {
      refuseMissing(`${methodOf(ioctl.name)}: ${name}[${i}]`, element, needs);
    }
  }

  /** Asks for eight bytes. */
  protected getU64(ioctl: Ioctl): bigint {
    const bytes = new BigUint64Array(1);
    this.ioctl(ioctl, new Uint8Array(bytes.buffer));
    return bytes[0] ?? 0n;
  }

  /** Sends eight bytes. */
  protected setU64(ioctl: Ioctl, value: WideInteger, name: string): void {
    const wide = toU64(`${methodOf(ioctl.name)}: ${name}`, value);
    this.ioctl(ioctl, new Uint8Array(BigUint64Array.of(wide).buffer), { args: { [name]: wide } });
  }

  /** The error for a call that the kernel refused, with its reason if it can be found out. */
  protected refusal(
    call: string,
    errno: number,
    context: CallContext & Pick<RefusedCall, "facts"> = {},
    argument?: IoctlArgument,
  ): KvmError {
    const { kind } = this.traced;
    return refused({
      ...context,
      call,
      label: this.label,
      errno,
      argument,
      kind: isAsked(kind) ? kind : undefined,
      evidence: () => this.evidence(),
      isExplained: this.explain,
    });
  }

  /** Whom to ask about a refusal: this object and those above it. */
  protected evidence(): Evidence {
    return {};
  }

  /** The handle that this one was made from, if it explains refusals as that one does. */
  protected above(): Handle | undefined {
    return undefined;
  }

  /** Notes what the kernel has taken, where a later refusal can only be explained by it. */
  protected taken(
    _ioctl: Ioctl,
    _argument: IoctlArgument | undefined,
    _context: CallContext,
  ): void {
    // Most handles have nothing to note.
  }

  /**
   * Lists the last calls of the VM that this handle belongs to (its vCPUs and devices share it), or
   * of /dev/kvm: a line each, as strace writes them. `console.log(vm.trace().join("\n"))`.
   */
  trace(): readonly string[] {
    return this.traced.ring.steps().map(toLine);
  }

  /**
   * Closes the descriptor. Views that it gave out become empty. Closing twice does nothing.
   */
  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    forgetFile(this);
    if (fd !== undefined) traceClose(this.traced);
    fd?.close();
  }

  /** Closes the handle at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  private expectNumber(ioctl: Ioctl, answer: number | NativeFd): number {
    if (typeof answer === "number") return answer;
    answer.close();
    throw new TypeError(`${ioctl.name} opens a descriptor: use the method that returns its handle`);
  }

  static {
    inspectAs(Handle, (it) => ({ label: it.label, closed: it.closed }));
  }
}

/** Whether a descriptor is of a kind that takes KVM's ioctls. */
function isAsked(kind: ObjectKind): kind is FdKind {
  return kind === "sys" || kind === "vm" || kind === "vcpu" || kind === "dev";
}

const CONTEXT: readonly string[] = ["args", "explain", "pastEnd", "links"];

/** Refuses unknown members of a context. Every ioctl passes here, so nothing is made unless one is. */
function refuseUnknownContext(context: CallContext): void {
  for (const name in context) {
    if (CONTEXT.includes(name)) continue;
    refuseUnknown("ioctl(): context", context, CONTEXT, "member");
  }
}

/** Lends the bytes of a struct whose fields `needs` must be there. */
function borrowNeeding<T>(
  ioctl: Ioctl<T>,
  layout: Layout<T>,
  value: StructInput<NoInfer<T>>,
  needs: readonly string[],
): Scratch {
  const where = methodOf(ioctl.name);
  const scratch = borrowEncoded(layout, value, where);
  try {
    refuseWithout(where, layout, value as object, needs);
  } catch (error) {
    scratch.isFree = true;
    throw error;
  }
  return scratch;
}

/** Makes the kernel's argument of the caller's: a number is an integer of 64 bits, as a bigint is. */
function toArgument(
  { name }: Ioctl,
  given: IoctlArgument | undefined,
): bigint | Uint8Array | undefined {
  if (isBytes(given)) return plainBytes(given);
  return given === undefined ? undefined : toU64(methodOf(name), given);
}

function argsOf(value: unknown): Readonly<Record<string, unknown>> {
  return value as Readonly<Record<string, unknown>>;
}
