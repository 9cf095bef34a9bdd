/** Helpers for the tests of the addon: descriptors that are closed after a test, and untyped calls. */
import { test } from "vitest";
import { KVM_CREATE_VCPU, KVM_CREATE_VM } from "../../../lib/abi/generated/ioctls.ts";
import type { Ioctl } from "../../../lib/abi/ioctl.ts";
import { errnoName } from "../../../lib/errors.ts";
import {
  isRefusal,
  type NativeFd,
  type NativeMapping,
  type NativeRefusal,
  type NativeRun,
  native,
} from "../../../lib/native.ts";

/** The device that these tests open. */
export const DEVICE: string = process.env["NODE_KVM_DEVICE"] ?? "/dev/kvm";

/** Calls a function with any receiver and any arguments, without types. */
export function call(target: unknown, method: string, ...args: readonly unknown[]): unknown {
  return borrow(target, method, target, ...args);
}

/** Calls a method of `owner` with another object as `this`. */
export function borrow(
  owner: unknown,
  method: string,
  receiver: unknown,
  ...args: readonly unknown[]
): unknown {
  const found: unknown = Reflect.get(Object(owner), method);
  if (typeof found !== "function") throw new Error(`no method ${method}`);
  return Reflect.apply(found, receiver, args);
}

/** Formats the result of a call as `-EINVAL`, as a number, or as `fd`. */
export function said(answer: unknown): string {
  if (isRefusal(answer)) return `-${errnoName(answer.errno)}`;
  if (typeof answer !== "number") return "fd";
  return answer < 0 ? `-${errnoName(-answer)}` : String(answer);
}

/** Returns the object that a call returned; throws if it returned an error. */
export function opened<T extends object>(answer: T | NativeRefusal | number): T {
  if (typeof answer === "number" || isRefusal(answer))
    throw new Error(`expected an object, got ${said(answer)}`);
  return answer;
}

/** Returns 32-bit words as bytes. */
export const asBytes = (...words: readonly number[]): Uint8Array =>
  new Uint8Array(Uint32Array.from(words).buffer);

/** Owns descriptors and mappings that are closed together. */
export class Bench {
  readonly #open: { close(): void }[] = [];
  readonly kvm: NativeFd = this.keep(opened(native().open(DEVICE)));
  readonly vm: NativeFd = this.create(this.kvm, KVM_CREATE_VM, 0);
  readonly vcpu: NativeFd = this.create(this.vm, KVM_CREATE_VCPU, 0);

  /** Closes an object at the end of the test. */
  keep<T extends { close(): void }>(handle: T): T {
    this.#open.push(handle);
    return handle;
  }

  /** Makes an ioctl that returns a descriptor. */
  create(fd: NativeFd, ioctl: Ioctl, argument: number | Uint8Array): NativeFd {
    return this.keep(opened(fd.ioctl(ioctl.request, argument)));
  }

  /** Maps memory. */
  map(length: number): NativeMapping {
    return this.keep(opened(native().mapAnonymous(length)));
  }

  /** Maps the kvm_run of a vCPU. */
  run(): NativeRun {
    const run = this.vcpu.mapRun(() => undefined);
    if (isRefusal(run)) throw new Error(`${run.call}: ${errnoName(run.errno)}`);
    return run;
  }

  /** Closes all objects in the order of creation; any order is safe. */
  close(): void {
    for (const handle of this.#open) handle.close();
  }
}

/** Defines a test that needs the device; the test is skipped with a reason if the device cannot be opened. */
export function deviceTest(
  claim: string,
  judge: (bench: Bench, skip: (reason: string) => never) => void,
): void {
  test(claim, ({ skip }) => {
    const device = native().open(DEVICE);
    if (typeof device === "number") skip(`no KVM: ${DEVICE}: ${said(device)}`);
    opened(device).close();
    const bench = new Bench();
    try {
      judge(bench, skip);
    } finally {
      bench.close();
    }
  });
}
