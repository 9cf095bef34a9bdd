/** The base class of every KVM handle: a handle owns one descriptor, issues ioctls on it, and closes it. */
import { isBytes, plainBytes } from "../abi/bytes.ts";
import type { FdKind, Ioctl } from "../abi/ioctl.ts";
import { borrow, borrowEncoded, type Scratch } from "../abi/scratch.ts";
import { encode, type Layout, readView, type StructInput, write } from "../abi/struct.ts";
import {
  hasUnion,
  refuseIncomplete,
  refusePartial,
  refuseShortArrays,
  refuseWithout,
  type StructInputWith,
  type WholeStructInput,
} from "../abi/whole.ts";
import { type KvmError, StateError } from "../errors.ts";
import type { Evidence } from "../explain/index.ts";
import { inspectAs } from "../inspect.ts";
import { expectNative, isRefusal, type NativeFd } from "../native.ts";
import { describe, refuseNonBooleans, refuseUnknown, toU64, type WideInteger } from "../options.ts";
import "../trace/file.ts";
import { toLine } from "../trace/line.ts";
import type { ObjectKind } from "../trace/record.ts";
import { traceAnswer, traceCall, traceClose, traced } from "../trace/sink.ts";
import type { Traced } from "../trace/traced.ts";
import {
  type LinkInput,
  type OpenFile,
  registerFile,
  toNativeLinks,
  toTraceLinks,
  unregisterFile,
} from "./link.ts";
import { methodOf } from "./method-name.ts";
import { isExplained, type RefusedCall, refused } from "./refused.ts";

/**
 * The end of an error message about missing fields. REMEDIES has the ends for ioctls with a method that changes single
 * fields.
 */
const READ_FIRST = "; read the state first and change the result";
const REMEDIES: ReadonlyMap<string, string> = new Map(
  ["REGS", "SREGS", "SREGS2", "FPU", "DEBUGREGS", "VCPU_EVENTS"].map((name) => {
    const update = methodOf(`KVM_SET_${name}`).replace(/^set/, "update");
    return [`KVM_SET_${name}`, `; ${update} changes some fields only`];
  }),
);

/**
 * The methods that create an object of each class, by the class's name. A subclass that a program defines is not
 * listed.
 */
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

/** The argument of an ioctl: an integer, or the bytes of its struct (changed in place). */
export type IoctlArgument = number | bigint | Uint8Array;

/** The context of an ioctl: the data for its error message, and the values of its links. */
export interface IoctlOptions {
  /** The arguments that the error contains, under KVM's names. */
  readonly args?: Readonly<Record<string, unknown>>;
  /** The reason that the error states if explain/ finds none; false turns reasons off. */
  readonly explain?: false | ((errno: number) => string | undefined);
  /** Allows a count that exceeds the argument; an unmapped page follows the argument. */
  readonly pastEnd?: boolean;
  /** The values of the struct's addresses and descriptors, in the order of `ioctl.links`. */
  readonly links?: readonly LinkInput[];
}

/**
 * An open KVM file descriptor.
 *
 * Each handle owns one descriptor, and closes only this descriptor. The kernel keeps a VM while its VM, a vCPU or a
 * device descriptor is open, so any order of closing is safe.
 */
export abstract class Handle implements OpenFile {
  /** The handle's name in errors: `"/dev/kvm"`, `"vm"`, `"vcpu 0"`. */
  readonly label: string;
  /** The handle's identity in traces. @internal */
  protected readonly traced: Traced;
  #fd: NativeFd | undefined;
  #explain: boolean | undefined;

  /** Takes a descriptor. */
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
   * Whether errors of this handle get a reason. The default is the value of the parent handle (the VM of a vCPU, the
   * Kvm of a VM). The default of a Kvm is true, or false if `$NODE_KVM_EXPLAIN` is 0.
   *
   * Finding a reason may issue additional ioctls, which docs/errors.md lists. The additional ioctls do not change the
   * results of later calls.
   */
  get explain(): boolean {
    return this.#explain ?? this.parent()?.explain ?? isExplained();
  }

  /**
   * Sets the value for this handle, and for all handles that were created from this handle and whose own value was not
   * set.
   */
  set explain(value: boolean) {
    refuseNonBooleans(this.label, { explain: value }, ["explain"]);
    this.#explain = value;
  }

  /** The descriptor; throws after {@link close}. @internal */
  protected get fd(): NativeFd {
    if (this.#fd === undefined) throw new StateError("ERR_CLOSED", this.label);
    return this.#fd;
  }

  /**
   * Issues an ioctl with an argument of the right size. The size is checked, also against a count in the struct; the
   * contents are not checked. The kernel's result overwrites the argument's bytes.
   *
   * For each field that is an address or a descriptor, `context.links` contains the value. The value replaces the bytes
   * of the field. Memory slots cannot be set this way; use `vm.setUserMemoryRegion`.
   *
   * @returns the kernel's result, zero or more.
   * @throws {@link KvmError} with the kernel's errno.
   */
  ioctl(ioctl: Ioctl, argument?: IoctlArgument, context: IoctlOptions = {}): number {
    const given: Partial<Ioctl> | null | undefined = ioctl;
    if (typeof given?.request !== "number" || typeof given.name !== "string") {
      throw new TypeError(`ioctl(): expected an ioctl of node-kvm/abi, got ${describe(ioctl)}`);
    }
    return this.expectNumber(ioctl, this.call(ioctl, argument, context));
  }

  /** Issues an ioctl whose result is a descriptor or a number. @internal */
  protected call(
    ioctl: Ioctl,
    given: IoctlArgument | undefined,
    context: IoctlOptions = {},
  ): number | NativeFd {
    refuseUnknownContext(context);
    const { pastEnd = false, links: values } = context;
    const links = values && toNativeLinks(ioctl, values);
    const { fd } = this;
    // Traces and explain/ require a Uint8Array of this realm that is not an instance of a subclass.
    const argument = toArgument(ioctl, given);
    const call = traceCall(this.traced, ioctl, argument, toTraceLinks(ioctl, values));
    const answer = fd.ioctl(ioctl.request, argument, pastEnd, links);
    // If a later call was refused, the descriptor that the ioctl has created is already closed.
    traceAnswer(call, isRefusal(answer) ? -answer.errno : answer);
    if (isRefusal(answer)) throw this.refusal(answer.call, answer.errno, context, argument);
    if (typeof answer === "number" && answer < 0) {
      throw this.refusal(ioctl.name, -answer, context, argument);
    }
    this.accepted(ioctl, argument, context);
    return answer;
  }

  /** Issues an ioctl whose result is a new descriptor. @internal */
  protected openFd(ioctl: Ioctl, argument?: IoctlArgument, context: IoctlOptions = {}): NativeFd {
    const answer = this.call(ioctl, argument, context);
    if (typeof answer === "number") throw new TypeError(`${ioctl.name} returns no descriptor`);
    return answer;
  }

  /** Reads a struct. @internal */
  protected getStruct<T>(ioctl: Ioctl<T>, layout: Layout<T>): T {
    const scratch = borrow(layout);
    try {
      this.ioctl(ioctl, scratch.bytes);
      return readView(layout, scratch.view);
    } finally {
      scratch.isFree = true;
    }
  }

  /** Passes a struct to the kernel; `needs` lists the required fields. @internal */
  protected setStruct<T, K extends keyof T & string = never>(
    ioctl: Ioctl<T>,
    layout: Layout<T>,
    value: StructInputWith<NoInfer<T>, NoInfer<K>>,
    needs: readonly K[] = [],
    context: IoctlOptions = { args: argsOf(value) },
  ): number {
    const scratch = borrowNeeding(ioctl, layout, value, needs);
    try {
      return this.ioctl(ioctl, scratch.bytes, context);
    } finally {
      scratch.isFree = true;
    }
  }

  /** Passes a struct that replaces a whole state; all fields are required. @internal */
  protected setWhole<T>(
    ioctl: Ioctl<T>,
    layout: Layout<T>,
    value: WholeStructInput<NoInfer<T>>,
  ): number {
    const where = methodOf(ioctl.name);
    const scratch = borrowEncoded<T>(layout, value as StructInput<T>, where);
    try {
      if (!scratch.isWhole || hasUnion(layout)) {
        refusePartial(where, layout, value as object, REMEDIES.get(ioctl.name) ?? READ_FIRST);
      }
      return this.ioctl(ioctl, scratch.bytes, { args: argsOf(value) });
    } finally {
      scratch.isFree = true;
    }
  }

  /** Changes some fields of a state: reads the state, replaces the fields of `patch`, and writes it. @internal */
  protected updateStruct<T>(
    get: Ioctl<T>,
    set: Ioctl<T>,
    layout: Layout<T>,
    patch: StructInput<NoInfer<T>>,
  ): void {
    const where = methodOf(set.name).replace(/^set/, "update");
    // An invalid patch must be rejected before the first ioctl.
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

  /** Passes a struct that the kernel changes, and returns the changed struct. @internal */
  protected exchangeStruct<T, K extends keyof T & string = never>(
    ioctl: Ioctl<T>,
    layout: Layout<T>,
    value: StructInputWith<NoInfer<T>, NoInfer<K>>,
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

  /** Rejects a list of structs if a required field is missing in one of them. @internal */
  protected expectEach(
    ioctl: Ioctl,
    name: string,
    list: readonly object[],
    needs: readonly string[],
  ): void {
    // The encoder rejects a value that is not an array.
    for (const [i, element] of (Array.isArray(list) ? list : []).entries()) {
      refuseIncomplete(`${methodOf(ioctl.name)}: ${name}[${i}]`, element, needs);
    }
  }

  /** Reads eight bytes from the kernel. @internal */
  protected getU64(ioctl: Ioctl): bigint {
    const bytes = new BigUint64Array(1);
    this.ioctl(ioctl, new Uint8Array(bytes.buffer));
    return bytes[0] ?? 0n;
  }

  /** Passes an integer to the kernel as the argument itself. The integer is required. @internal */
  protected setInteger(ioctl: Ioctl, value: WideInteger | undefined, name: string): number {
    // The kernel would get 0. A closed handle has its own error.
    if (value === undefined && this.fd) toU64(methodOf(ioctl.name), value);
    return this.ioctl(ioctl, value, { args: { [name]: value } });
  }

  /** Passes eight bytes to the kernel. @internal */
  protected setU64(ioctl: Ioctl, value: WideInteger, name: string): void {
    const wide = toU64(`${methodOf(ioctl.name)}: ${name}`, value);
    this.ioctl(ioctl, new Uint8Array(BigUint64Array.of(wide).buffer), { args: { [name]: wide } });
  }

  /** Creates the error of a failed call, with its reason if explain/ finds one. @internal */
  protected refusal(
    call: string,
    errno: number,
    context: IoctlOptions & Pick<RefusedCall, "facts"> = {},
    argument?: IoctlArgument,
  ): KvmError {
    const { kind } = this.traced;
    return refused({
      ...context,
      call,
      label: this.label,
      errno,
      argument,
      kind: hasIoctls(kind) ? kind : undefined,
      evidence: () => this.evidence(),
      isExplained: this.explain,
    });
  }

  /** Returns the evidence that this handle and its parent handles can provide after an error. @internal */
  protected evidence(): Evidence {
    return {};
  }

  /** Returns the parent handle, from which this handle inherits `explain`. @internal */
  protected parent(): Handle | undefined {
    return undefined;
  }

  /** Records an accepted call whose arguments are needed to explain later errors. @internal */
  protected accepted(
    _ioctl: Ioctl,
    _argument: IoctlArgument | undefined,
    _context: IoctlOptions,
  ): void {
    // Most handles do not record calls.
  }

  /**
   * Returns the last calls on this handle's VM, including those on its vCPUs and devices. A handle of /dev/kvm returns
   * the last calls on /dev/kvm. Each call is one line in strace's format: `console.log(vm.trace().join("\n"))`.
   */
  trace(): readonly string[] {
    return this.traced.ring.steps().map(toLine);
  }

  /**
   * Closes the descriptor, and detaches the views of the handle's mappings: these views are then empty. Closing twice
   * is a no-op.
   */
  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    unregisterFile(this);
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

/** The methods of a handle that issue ioctls: the parameter type of the functions in `calls/`. */
export type IoctlTarget = Pick<Handle, "ioctl">;

/** Returns whether a descriptor has KVM ioctls. */
function hasIoctls(kind: ObjectKind): kind is FdKind {
  return kind === "sys" || kind === "vm" || kind === "vcpu" || kind === "dev";
}

const CONTEXT: readonly string[] = ["args", "explain", "pastEnd", "links"];

/**
 * Rejects unknown members of a context. Every ioctl calls this function, so it allocates memory only if it finds an
 * unknown member.
 */
function refuseUnknownContext(context: IoctlOptions): void {
  const given: unknown = context;
  if (typeof given !== "object" || given === null) {
    refuseUnknown("ioctl(): context", given, CONTEXT, "member");
  }
  for (const name in context) {
    if (CONTEXT.includes(name)) continue;
    refuseUnknown("ioctl(): context", context, CONTEXT, "member");
  }
}

/** Borrows a buffer with the encoded struct, after checking that the fields of `needs` are present. */
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

/** Converts the caller's argument for the kernel: a number or a bigint becomes an integer of 64 bits. */
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
