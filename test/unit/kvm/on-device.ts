/**
 * Fixtures for tests on a real device: separate handles for each test, and a function that returns the error of a call.
 */
import { test as plain, type TestAPI } from "vitest";
import { fromSupported } from "../../../lib/cpuid/index.ts";
import { KvmError } from "../../../lib/errors.ts";
import { type GuestBuilder, guest } from "../../../lib/guest/index.ts";
import { vendorModule } from "../../../lib/kvm/host.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { GuestMemory } from "../../../lib/kvm/memory/guest-memory.ts";
import type { Vcpu } from "../../../lib/kvm/vcpu.ts";
import type { Vm } from "../../../lib/kvm/vm.ts";
import { Sandbox } from "../../../lib/machine/sandbox.ts";

function open(): Kvm | string {
  try {
    return Kvm.open();
  } catch (error) {
    if (error instanceof KvmError) return error.message;
    throw error;
  }
}

/** Whether /dev/kvm is provided by the software vendor module kvm_pvm, for which some results are known to differ. */
export const isPvm: boolean = vendorModule() === "kvm_pvm";

/** The fixtures of a test; a fixture that a test does not use is not created. */
export interface Handles {
  kvm: Kvm;
  vm: Vm;
  /** The VM's vCPU 0, with the CPUID table of the host. */
  vcpu: Vcpu;
  /** Memory of 16 KiB that no VM uses yet. */
  memory: GuestMemory;
  /** Creates a sandbox with a 64-bit guest. */
  box: (build: (g: GuestBuilder) => unknown) => Sandbox;
}

/** Gives each test separate handles, which are closed after the test; skips the test without a device. */
export const test: TestAPI<Handles> = plain.extend<Handles>({
  kvm: async ({ skip }, use) => {
    const kvm = open();
    if (typeof kvm === "string") return skip(kvm);
    await use(kvm);
    kvm.close();
  },
  vm: async ({ kvm }, use) => {
    using vm = kvm.createVm();
    await use(vm);
  },
  vcpu: async ({ kvm, vm }, use) => {
    using vcpu = vm.createVcpu(0);
    vcpu.setCpuid2(fromSupported(kvm.getSupportedCpuid()));
    await use(vcpu);
  },
  // biome-ignore lint/correctness/noEmptyPattern: vitest reads the required fixtures from this pattern
  memory: async ({}, use) => {
    using memory = GuestMemory.allocate(0x4000);
    await use(memory);
  },
  box: async ({ kvm }, use) => {
    const made: Sandbox[] = [];
    await use((build) => {
      const cpuid = fromSupported(kvm.getSupportedCpuid());
      const box = new Sandbox(kvm, { cpuid, program: guest("long", build) });
      made.push(box);
      return box;
    });
    for (const box of made) box.close();
  },
});

/** Returns the error with which the kernel refuses a call. */
export function refusal(call: () => unknown): KvmError {
  try {
    call();
  } catch (error) {
    if (error instanceof KvmError) return error;
    throw error;
  }
  throw new Error("the kernel accepted");
}
