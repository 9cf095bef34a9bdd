/** Tests of the sandbox on KVM: ucalls and faults of its guest, and closing it. */
import { readdirSync } from "node:fs";
import { describe, expect } from "vitest";
import { fromSupported } from "../../../lib/cpuid/index.ts";
import { KvmError } from "../../../lib/errors.ts";
import { guest, type ModeName, type Program } from "../../../lib/guest/index.ts";
import { Sandbox, type SandboxOptions } from "../../../lib/machine/sandbox.ts";
import { test as onDevice } from "../kvm/on-device.ts";

type Make = (program: Program, more?: Omit<SandboxOptions, "program">) => Sandbox;

/** Creates sandboxes with the CPUID table of the host, which are closed after the test. */
const test = onDevice.extend<{ sandbox: Make }>({
  sandbox: async ({ kvm }, use) => {
    const made: Sandbox[] = [];
    await use((program, more = {}) => {
      const cpuid = fromSupported(kvm.getSupportedCpuid());
      const box = new Sandbox(kvm, { cpuid, ...more, program });
      made.push(box);
      return box;
    });
    for (const box of made) box.close();
  },
});

const MODES: readonly ModeName[] = ["real", "protected", "long", "user"];

describe.each(MODES)("a Sandbox in %s mode", (mode) => {
  test("runs a guest that makes ucalls, of which the last is `done`", ({ sandbox }) => {
    const box = sandbox(
      guest(mode, (g) =>
        g
          .sync(1, 2n ** 64n - 1n)
          .sync()
          .sync(3)
          .done(),
      ),
    );
    expect(box.syncs()).toEqual([[1n, 2n ** 64n - 1n], [], [3n]]);
  });

  test("reports an unexpected exception as an error with its vector and address", ({ sandbox }) => {
    // The guest does not use UD2, because KVM's emulator fails at an undefined instruction in real mode.
    const box = sandbox(guest(mode, (g) => g.asm((a) => a.xor("cx", "cx").emit("Div_rm8", "cl"))));
    expect(() => box.syncs()).toThrow(/^exception 0 in the guest at 0x1000[23], error code 0$/);
  });

  test("runs a finished guest again after a reset", ({ sandbox }) => {
    const box = sandbox(guest(mode, (g) => g.sync(7).done()));
    const first = box.syncs();
    box.reset();
    expect([first, box.syncs()]).toEqual([[[7n]], [[7n]]]);
  });
});

test("after an exception in the guest, Sandbox.next() returns a fault with the exception's error code", ({
  sandbox,
}) => {
  const beyond = guest("long", (g) => g.asm((a) => a.mov("eax", 0xfff8).mov("fs", "ax")).done());
  expect(sandbox(beyond).next()).toMatchObject({ kind: "fault", vector: 13, errorCode: 0xfff8 });
});

test("Sandbox.next() throws an error that describes an exit which is not a ucall", ({
  sandbox,
}) => {
  const box = sandbox(guest("long", (g) => g.outb(0x80, 0x5a).done()));
  expect(() => box.next()).toThrow(/^the guest exited without a ucall: \{"kind":"io".*"port":128/);
});

test("Sandbox.ucall() returns undefined for an exit that is not a ucall", ({ sandbox }) => {
  const box = sandbox(guest("long", (g) => g.outb(0x80, 0x5a).hlt()));
  expect(box.ucall(box.vcpu.runSync())).toBeUndefined();
  expect(box.ucall(box.vcpu.runSync())).toBeUndefined();
});

test("Sandbox.next() and Sandbox.ucall() return the same ucalls", ({ sandbox }) => {
  const box = sandbox(guest("long", (g) => g.sync(5).sync(5).done()));
  expect(box.ucall(box.vcpu.runSync())).toEqual(box.next());
});

test("Sandbox.reset() keeps the CPUID table and the memory", ({ sandbox }) => {
  const box = sandbox(
    guest("long", (g) => g.read(0x9_0000, 8).write(0x9_0000, 9, 8).sync().done()),
  );
  const table = box.vcpu.getCpuid2();
  expect(box.syncs()).toEqual([[0n]]);
  box.reset();
  expect(box.syncs()).toEqual([[9n]]);
  expect(box.vcpu.getCpuid2()).toEqual(table);
});

test("a Sandbox without a CPUID table leaves the vCPU's CPUID table empty", ({ kvm }) => {
  using box = new Sandbox(kvm, { program: guest("real", (g) => g.sync(1).done()) });
  expect(box.vcpu.getCpuid2()).toEqual([]);
  expect(box.syncs()).toEqual([[1n]]);
});

test("Sandbox calls prepare() with the VM before its vCPU is created", ({ sandbox }) => {
  const box = sandbox(
    guest("real", (g) => g.done()),
    { prepare: (vm) => vm.createIrqchip() },
  );
  expect(() => box.vm.createIrqchip()).toThrow(expect.objectContaining({ code: "EEXIST" }));
});

describe("closing a Sandbox", () => {
  test("closes the vCPU, the VM and the memory, and may be repeated", ({ sandbox }) => {
    const box = sandbox(guest("real", (g) => g.done()));
    box.close();
    expect(() => box.close()).not.toThrow();
    expect([box.vcpu.closed, box.vm.closed, box.memory.closed]).toEqual([true, true, true]);
  });

  test("is done at the end of a using block", ({ kvm }) => {
    const kept = (() => {
      using box = new Sandbox(kvm, { program: guest("real", (g) => g.done()) });
      return box;
    })();
    expect(kept.vm.closed).toBe(true);
  });

  test("is not needed after the Sandbox's CPUID table was rejected: no descriptor is left open", ({
    kvm,
  }) => {
    const program = guest("real", (g) => g.done());
    const cpuid = [{ function: 0x8000_0008, eax: 49 << 8 }];
    const before = readdirSync("/proc/self/fd").length;
    expect(() => new Sandbox(kvm, { program, cpuid })).toThrow(KvmError);
    expect(readdirSync("/proc/self/fd")).toHaveLength(before);
  });
});
