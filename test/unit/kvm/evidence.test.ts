/**
 * Tests of the ioctls that collect evidence for a reason: they have no side effects, and none is issued if `explain` is
 * false.
 */
import { expect, test } from "vitest";
import { IOCTLS } from "../../../lib/abi/generated/ioctls.ts";
import { Cpuid2 } from "../../../lib/abi/generated/structs.ts";
import type { FdKind, Ioctl } from "../../../lib/abi/ioctl.ts";
import { encode, sizeOf } from "../../../lib/abi/struct.ts";
import { KvmError } from "../../../lib/errors.ts";
import { everyRule } from "../../../lib/explain/index.ts";
import { EVIDENCE_IOCTLS } from "../../../lib/kvm/evidence.ts";
import type { Handle } from "../../../lib/kvm/handle.ts";
import { EventFd } from "../../../lib/kvm/host-file.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import type { Vcpu } from "../../../lib/kvm/vcpu.ts";
import type { Vm } from "../../../lib/kvm/vm.ts";
import type { NativeFd } from "../../../lib/native.ts";
import { traceOpen } from "../../../lib/trace/sink.ts";
import { errnoOf } from "../explain/refused.ts";

const MAKES: Readonly<Record<string, FdKind>> = { KVM_CREATE_VM: "vm", KVM_CREATE_VCPU: "vcpu" };
const nameOf = (request: number, kind: FdKind): string =>
  IOCTLS.find((ioctl) => ioctl.request === request && ioctl.fds.includes(kind))?.name ?? "unknown";

/** A fake kernel in which one ioctl fails and every other ioctl returns the same number. */
class FakeKernel {
  /** The ioctls that were issued; KVM_GET_MSRS is listed with the kind of handle. */
  readonly asked: string[] = [];
  refuses: readonly [request: number, errno: number] | undefined;
  readonly #answer: number;

  constructor(answer: number) {
    this.#answer = answer;
  }

  fd(kind: FdKind): NativeFd {
    const made = { mapRun: () => this.#run(), close: () => undefined };
    const ioctl = (request: number): number | NativeFd => {
      const name = nameOf(request, kind);
      this.asked.push(name === "KVM_GET_MSRS" ? `${name} ${kind}` : name);
      if (this.refuses?.[0] === request) return -this.refuses[1];
      const child = MAKES[name];
      return child === undefined ? this.#answer : this.fd(child);
    };
    return { ...made, ioctl } as unknown as NativeFd;
  }

  #run(): object {
    return { bytes: new ArrayBuffer(3 * 4096), token: 1n, history: () => 3, kick: () => undefined };
  }
}

interface Machine {
  readonly kernel: FakeKernel;
  readonly sys: Kvm;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
}

function machine(answer: number): Machine {
  const kernel = new FakeKernel(answer);
  const fd = kernel.fd("sys");
  traceOpen("/dev/kvm", fd);
  // Only Kvm.open() may call the constructor of Kvm, and Kvm.open() needs a device.
  const sys: Kvm = Reflect.construct(Kvm, [fd, "/dev/kvm"]);
  const vm = sys.createVm();
  vm.enableCap({ cap: "KVM_CAP_X2APIC_API", args: [1n] });
  return { kernel, sys, vm, vcpu: vm.createVcpu(0) };
}

/** Makes an ioctl that fails, and returns the ioctls that were issued after the failure. */
function askedAfter(
  { kernel }: Machine,
  handle: Handle,
  ioctl: Ioctl,
  errno: string,
  argument?: bigint | Uint8Array,
): readonly string[] {
  kernel.refuses = [ioctl.request, errnoOf(errno)];
  kernel.asked.length = 0;
  const issue = (): number => handle.ioctl(ioctl, argument);
  expect(issue).toThrow(KvmError);
  kernel.refuses = undefined;
  return kernel.asked.slice(1);
}

const argumentsOf = (ioctl: Ioctl): readonly (bigint | Uint8Array)[] => {
  const size = Math.max(ioctl.size, ioctl.struct?.size ?? 0, 1);
  return [0n, new Uint8Array(size), new Uint8Array(size).fill(255), new Uint8Array(size).fill(1)];
};

/**
 * Makes every call fail with each errno that has a rule, on every kind of handle and with several arguments. Returns
 * the ioctls that were issued after these failures.
 */
function askedByAll(from: Machine): Set<string> {
  const asked = new Set<string>();
  const errnos = (name: string): readonly string[] =>
    everyRule()
      .filter(([call]) => call === name || call === "any call")
      .map(([, errno]) => errno);
  for (const ioctl of IOCTLS.filter(({ name }) => name !== "KVM_RUN")) {
    for (const kind of ["sys", "vm", "vcpu"] as const) {
      for (const errno of new Set(errnos(ioctl.name))) {
        for (const argument of argumentsOf(ioctl)) {
          for (const name of askedAfter(from, from[kind], ioctl, errno, argument)) asked.add(name);
        }
      }
    }
  }
  return asked;
}

/** Returns the ioctls that explainMsrs() issues for refused MSRs. */
function askedByMsrs({ kernel, vcpu }: Machine): Set<string> {
  kernel.asked.length = 0;
  for (const index of [0x1b, 0x3a, 0x49, 0x10a, 0x277, 0x345, 0x38d, 0x480, 0x48f, 0x4b564d02]) {
    vcpu.explainMsrs([{ index, data: 1n }], 0);
    vcpu.explainMsrs([{ index }], 0);
  }
  return new Set(kernel.asked);
}

test.each([0, 1])(
  "if KVM returns %i for each ioctl, the reason is found with ioctls that have no side effects",
  (answer) => {
    const from = machine(answer);
    const asked = new Set([...askedByAll(from), ...askedByMsrs(from)]);
    expect(Array.from(asked).filter((name) => !(name in EVIDENCE_IOCTLS))).toEqual([]);
  },
);

test("each ioctl that collects evidence for a reason is on the list of ioctls without side effects", () => {
  const [none, one] = [machine(0), machine(1)];
  const asked = [none, one].flatMap((from) => [...askedByAll(from), ...askedByMsrs(from)]);
  expect(new Set(asked)).toEqual(new Set(Object.keys(EVIDENCE_IOCTLS)));
});

const SREGS = IOCTLS.find(({ name }) => name === "KVM_SET_SREGS") as Ioctl;
const MCE = IOCTLS.find(({ name }) => name === "KVM_X86_SETUP_MCE") as Ioctl;
const bad = ({ size }: Ioctl): Uint8Array => new Uint8Array(size).fill(255);

test("a failed call is not followed by other ioctls if explain is false on the handle, the VM or the Kvm", () => {
  for (const level of ["vcpu", "vm", "sys"] as const) {
    const from = machine(1);
    expect(askedAfter(from, from.vcpu, MCE, "EINVAL", bad(MCE))).not.toEqual([]);
    from[level].explain = false;
    expect(askedAfter(from, from.vcpu, MCE, "EINVAL", bad(MCE))).toEqual([]);
    from.vcpu.explain = true;
    expect(askedAfter(from, from.vcpu, MCE, "EINVAL", bad(MCE))).not.toEqual([]);
  }
});

test("a failed call with explain: false issues no further ioctl, and its error has no reason", () => {
  const { kernel, vcpu } = machine(1);
  const set = IOCTLS.find(({ name }) => name === "KVM_SET_CPUID2") as Ioctl;
  kernel.refuses = [set.request, errnoOf("E2BIG")];
  kernel.asked.length = 0;
  expect(() => vcpu.setCpuid2([])).toThrow(/E2BIG: 0 entries/);
  expect(() => vcpu.setCpuid2([], { explain: false })).toThrow(/E2BIG$/);
  expect(kernel.asked).toEqual(["KVM_SET_CPUID2", "KVM_SET_CPUID2"]);
});

test("with NODE_KVM_EXPLAIN=0, no error of the process has a reason", () => {
  const from = machine(1);
  process.env["NODE_KVM_EXPLAIN"] = "0";
  try {
    expect(from.vcpu.explain).toBe(false);
    expect(askedAfter(from, from.vcpu, MCE, "EINVAL", bad(MCE))).toEqual([]);
    expect(() => Kvm.open("/nowhere")).toThrow(/ENOENT$/);
  } finally {
    delete process.env["NODE_KVM_EXPLAIN"];
  }
  expect(() => Kvm.open("/nowhere")).toThrow(/ENOENT: \/nowhere does not exist/);
  expect(() => Kvm.open("/nowhere", { explain: false })).toThrow(/ENOENT$/);
});

test("KVM_GET_SUPPORTED_CPUID is called once for all failures of one Kvm object", () => {
  const from = machine(0);
  const count = (): number =>
    askedAfter(from, from.vcpu, SREGS, "EINVAL", bad(SREGS)).filter(
      (name) => name === "KVM_GET_SUPPORTED_CPUID",
    ).length;
  expect([count(), count(), count()]).toEqual([1, 0, 0]);
});

test("the reason of a refused KVM_SET_CPUID2 compares the table with the table that KVM accepted from setCpuid2() or setCpuid()", () => {
  const { kernel, vcpu } = machine(0);
  const set = IOCTLS.find(({ name }) => name === "KVM_SET_CPUID2") as Ioctl;
  const refuse = (): void => {
    kernel.refuses = [set.request, errnoOf("EINVAL")];
  };
  vcpu.setCpuid2([{ function: 7, flags: 1, ebx: 32 }]);
  refuse();
  expect(() => vcpu.setCpuid2([{ function: 7, flags: 1 }])).toThrow(
    /0x7.0:ebx\[5\] avx2: ran with 1, got 0/,
  );
  kernel.refuses = undefined;
  vcpu.setCpuid([{ function: 7, eax: 0, ebx: 0, ecx: 0, edx: 0, padding: 0 }]);
  refuse();
  expect(() => vcpu.setCpuid2([{ function: 7, ebx: 32 }])).toThrow(/avx2: ran with 0, got 1/);
  expect(kernel.asked).not.toContain("KVM_GET_CPUID2");
});

test("the reason of a refused KVM_SET_CPUID2 compares the table with the table that a later KVM_GET_CPUID2 returned", () => {
  const { kernel, vcpu } = machine(0);
  const [set, get] = ["KVM_SET_CPUID2", "KVM_GET_CPUID2"].map(
    (wanted) => IOCTLS.find(({ name }) => name === wanted) as Ioctl,
  );
  vcpu.setCpuid2([{ function: 7, flags: 1, ebx: 32 }]);
  // Like kvm_pvm, this kernel has stored a table that differs from the table that it received.
  const stored = { nent: 1, entries: [{ function: 7, flags: 1, ebx: 0 }] };
  const room = new Uint8Array(sizeOf(Cpuid2, 2));
  room.set(encode(Cpuid2, stored));
  vcpu.ioctl(get as Ioctl, room, { pastEnd: true });
  kernel.refuses = [(set as Ioctl).request, errnoOf("EINVAL")];
  expect(() => vcpu.setCpuid2([{ function: 7, flags: 1, ebx: 32 }])).toThrow(
    /avx2: ran with 0, got 1/,
  );
});

test("the reason of a refused KVM_IRQFD distinguishes an eventfd of another VM from an eventfd of this VM", () => {
  const [a, b] = [machine(0), machine(0)];
  const irqfd = IOCTLS.find(({ name }) => name === "KVM_IRQFD") as Ioctl;
  using fd = EventFd.create();
  a.vm.irqfd({ fd, gsi: 1 });
  for (const { kernel } of [a, b]) kernel.refuses = [irqfd.request, errnoOf("EBUSY")];
  expect(() => a.vm.irqfd({ fd, gsi: 2 })).toThrow(/already raises an interrupt of this VM/);
  expect(() => b.vm.irqfd({ fd, gsi: 2 })).toThrow(/of another VM/);
  a.kernel.refuses = undefined;
  a.vm.irqfd({ fd, gsi: 1, flags: 1 });
  expect(() => b.vm.irqfd({ fd, gsi: 2 })).toThrow(/either another process or device/);
});

test("the reason of EEXIST distinguishes a slot over the APIC's page from a vCPU id that is in use", () => {
  const { kernel, vm } = machine(0);
  const create = IOCTLS.find(({ name }) => name === "KVM_CREATE_VCPU") as Ioctl;
  kernel.refuses = [create.request, errnoOf("EEXIST")];
  expect(() => vm.createVcpu(0)).toThrow(/vCPU 0 was created before/);
  expect(() => vm.createVcpu(1)).toThrow(/EEXIST$/);
});
