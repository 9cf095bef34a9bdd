/**
 * The two styles of exported C files: a program that needs only the kernel's headers, and a test in the idiom of the
 * kernel's selftests (tools/testing/selftests/kvm). A dialect writes the statements that differ.
 */
import type { Ioctl } from "../../abi/ioctl.ts";
import { errnoName } from "../../errors.ts";
import type { ObjectKind } from "../record.ts";
import { result } from "./literal.ts";

/** The style of an exported C file. */
export type CStyle = "program" | "selftest";

/** An ioctl with its argument, written in C. */
export interface CallText {
  /** The number of the step. */
  readonly at: number;
  readonly kind: ObjectKind;
  /** The variable of the descriptor. */
  readonly variable: string;
  readonly ioctl: Ioctl | undefined;
  readonly request: string;
  readonly argument: string;
  /** Whether the argument is a pointer to the ioctl's struct; otherwise, it is an integer or a pointer to bytes. */
  readonly isStruct: boolean;
  /** The capability that the call enables. */
  readonly enables: string | undefined;
  /** The recorded result. */
  readonly result: number;
  /** Whether the result describes the host, so that it may differ on another host. */
  readonly isOfTheHost: boolean;
}

/** Writes the statements of one style. */
export interface Dialect {
  /** Declares the variable of a descriptor. */
  declaration(kind: ObjectKind, variable: string): string;
  /** Returns the expression for the number of a descriptor. */
  number(kind: ObjectKind, variable: string): string;
  /** Returns the expression for a vCPU's kvm_run; undefined if the file has to map it. */
  run(vcpu: string): string | undefined;
  /** Opens the device; `device` is a C string, or an expression with one. */
  open(variable: string | undefined, device: string): string;
  /** Makes an ioctl, and checks its result. */
  call(call: CallText): readonly string[];
  /** Makes an ioctl that creates a descriptor; `made` is the variable of the new descriptor. */
  create(call: CallText, made: Made): readonly string[];
  /** Runs a vCPU; `checks` compare the exit. */
  runs(run: RunText, checks: readonly string[]): readonly string[];
}

/** A descriptor that a call creates. */
export interface Made {
  readonly kind: ObjectKind;
  readonly variable: string;
  /** The argument, if it is an integer, such as the id of a vCPU. */
  readonly argument: bigint;
  /** Whether the call returns the descriptor, and does not write it into its argument. */
  readonly isResult: boolean;
}

/** KVM_RUN. */
export interface RunText {
  readonly at: number;
  readonly vcpu: string;
  /** The expression for kvm_run. */
  readonly run: string;
  readonly result: number;
  /** The constant of the exit; undefined if KVM_RUN failed without an exit. */
  readonly reason: string | undefined;
}

/** The style of a program, which uses the macros of prelude.c. */
export const PROGRAM: Dialect = {
  declaration: (_, variable) => `int ${variable};`,
  number: (_, variable) => variable,
  run: () => undefined,
  open: (variable, device) =>
    variable === undefined ? `open_kvm(${device});` : `${variable} = open_kvm(${device});`,
  call({ at, variable, request, argument, result: value }) {
    return [`CALL(${at}, ${variable}, ${request}, ${argument}, ${result(value)});`];
  },
  create({ at, variable, request, argument }, made) {
    const target = made.isResult ? `${made.variable} = ` : "";
    return [`${target}CREATE(${at}, ${variable}, ${request}, ${argument});`];
  },
  runs({ at, vcpu, run, result: value, reason }, checks) {
    if (reason === undefined) {
      const call = `call(${vcpu}, KVM_RUN, 0)`;
      return [`check_result(${at}, "KVM_RUN (${vcpu})", ${call}, ${result(value)});`];
    }
    const call = `RUN(${at}, ${vcpu}, ${run}, ${result(value)}, ${reason})`;
    if (checks.length === 0) return [`${call};`];
    return [`if (${call}) {`, ...checks.map((line) => `\t${line}`), "}"];
  },
};

/** The functions of the framework by the kind of descriptor; other descriptors are numbers, as /dev/kvm is. */
const CALLS: Readonly<Partial<Record<ObjectKind, string>>> = { vm: "vm_ioctl", vcpu: "vcpu_ioctl" };

/** The style of the kernel's selftests. */
export const SELFTEST: Dialect = {
  declaration(kind, variable) {
    if (kind === "vm") return `struct kvm_vm *${variable};`;
    return kind === "vcpu" ? `struct kvm_vcpu *${variable};` : `int ${variable};`;
  },
  number: (kind, variable) => (kind in CALLS ? `${variable}->fd` : variable),
  run: (vcpu) => `${vcpu}->run`,
  open: (variable) =>
    variable === undefined
      ? "close(open_kvm_dev_path_or_exit());"
      : `${variable} = open_kvm_dev_path_or_exit();`,
  call(call) {
    if (call.isOfTheHost && call.result >= 0) return hostCall(call);
    const { enables } = call;
    const needed = enables === undefined ? [] : [`TEST_REQUIRE(kvm_has_cap(${enables}));`];
    if (call.result === 0 && isTyped(call)) return [...needed, `${typedCall(call, "")};`];
    return [...needed, `r = ${rawCall(call)};`, assertion(call.at, call.request, call.result)];
  },
  create(call, { kind, variable, argument, isResult }) {
    if (kind === "vm" && argument === 0n) return [`${variable} = vm_create_barebones();`];
    if (kind === "vm") {
      const shape = `(struct vm_shape){ .mode = VM_MODE_DEFAULT, .type = ${call.argument} }`;
      return [`${variable} = ____vm_create(${shape});`];
    }
    if (kind === "vcpu")
      return [`${variable} = __vm_vcpu_add(${call.variable}, ${call.argument});`];
    if (!isResult) return [`${typedCall(call, "")};`];
    const check = `TEST_ASSERT(${variable} >= 0, KVM_IOCTL_ERROR(${call.request}, ${variable}));`;
    return [`${variable} = ${rawCall(call)};`, check];
  },
  runs({ at, vcpu, result: value, reason }, checks) {
    const assert =
      value === 0
        ? "TEST_ASSERT(!r, KVM_IOCTL_ERROR(KVM_RUN, r));"
        : assertion(at, "KVM_RUN", value);
    const exit = reason === undefined ? [] : [`TEST_ASSERT_KVM_EXIT_REASON(${vcpu}, ${reason});`];
    return [`r = __vcpu_run(${vcpu});`, assert, ...exit, ...checks];
  },
};

/** Checks only that the call succeeds, because the result describes the host; the test requires the same capabilities. */
function hostCall(call: CallText): readonly string[] {
  if (call.request === "KVM_CHECK_EXTENSION") {
    const has =
      call.kind === "vm"
        ? `vm_check_cap(${call.variable}, ${call.argument})`
        : `kvm_has_cap(${call.argument})`;
    return [`TEST_REQUIRE(${call.result === 0 ? "!" : ""}${has});`];
  }
  return [`r = ${rawCall(call)};`, `TEST_ASSERT(r >= 0, KVM_IOCTL_ERROR(${call.request}, r));`];
}

/** Whether the framework's functions, which check the size of the argument, accept the argument. */
function isTyped({ ioctl, isStruct }: CallText): boolean {
  return ioctl !== undefined && (isStruct || ioctl.kind === "none" || ioctl.kind === "value");
}

/** Returns the call by a function of the framework; with the prefix `__`, the function does not check the result. */
function typedCall({ kind, variable, request, argument, isStruct }: CallText, prefix: string) {
  const pointer = isStruct ? argument : pointerTo(argument);
  return `${prefix}${CALLS[kind] ?? "kvm_ioctl"}(${variable}, ${request}, ${pointer})`;
}

function pointerTo(integer: string): string {
  return integer === "0" ? "NULL" : `(void *)(unsigned long)${integer}`;
}

function rawCall(call: CallText): string {
  if (isTyped(call)) return typedCall(call, "__");
  const fd = SELFTEST.number(call.kind, call.variable);
  return `ioctl(${fd}, ${call.request}, ${call.argument})`;
}

/** Asserts a result that is in the variable `r`. */
function assertion(at: number, request: string, value: number): string {
  const got = `got %d, errno: %d (%s)", r, errno, strerror(errno));`;
  if (value >= 0)
    return `TEST_ASSERT(r == ${value}, "step ${at}: ${request} should return ${value}, ${got}`;
  const name = errnoName(-value).startsWith("errno") ? String(-value) : errnoName(-value);
  return `TEST_ASSERT(r == -1 && errno == ${name}, "step ${at}: ${request} should fail with ${name}, ${got}`;
}
