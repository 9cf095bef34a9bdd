/** Tests of the reasons of refused calls about interrupts: controllers, routes, messages, and the eventfds of a VM. */
import { describe, expect, test } from "vitest";
import type { Evidence, IrqchipMode } from "../../../lib/explain/index.ts";
import { vmWith, why } from "./refused.ts";

const FORMAT = new Map([["KVM_CAP_X2APIC_API", [1n]]] as const);
const irqchip = (mode: IrqchipMode, more: Evidence["vm"] = {}): Evidence =>
  vmWith({ KVM_CAP_IRQ_ROUTING: 4096 }, { irqchip: () => mode, ...more });
const [none, split, kernel] = [irqchip("none"), irqchip("split"), irqchip("kernel")];
const wide = irqchip("kernel", { enabled: () => FORMAT });
const NONE =
  "the VM has no interrupt controllers in the kernel: KVM_CREATE_IRQCHIP creates them, before the first vCPU";
const SPLIT =
  "with KVM_CAP_SPLIT_IRQCHIP, only the LAPICs are in the kernel, and PIC and IOAPIC are not";
const NO_LAPIC =
  "this vCPU has no LAPIC in the kernel: KVM_CREATE_IRQCHIP creates them, before the first vCPU";
const lapic = (hasLapic: boolean): Evidence => ({ vcpu: { id: 0, hasLapic: () => hasLapic } });

describe("the reason of a failed call for an interrupt controller is stated for", () => {
  test.each([
    ["KVM_IRQ_LINE ENXIO", none, NONE],
    ["KVM_IRQ_LINE ENXIO", kernel, undefined],
    ["KVM_IRQ_LINE_STATUS ENXIO", none, NONE],
    ["KVM_GET_IRQCHIP ENXIO", none, NONE],
    ["KVM_SET_IRQCHIP ENXIO", split, SPLIT],
    ["KVM_GET_IRQCHIP ENXIO", kernel, undefined],
    ["KVM_CREATE_PIT2 ENOENT", none, NONE],
    ["KVM_CREATE_PIT2 ENOENT", split, SPLIT],
    ["KVM_CREATE_PIT ENOENT", none, NONE],
    ["KVM_CREATE_PIT2 EEXIST", kernel, "the VM has a PIT"],
    ["KVM_CREATE_IRQCHIP EEXIST", kernel, "the VM has an irqchip"],
    ["KVM_CREATE_IRQCHIP EEXIST", split, "the VM has a split irqchip (KVM_CAP_SPLIT_IRQCHIP)"],
    ["KVM_GET_LAPIC EINVAL", lapic(false), NO_LAPIC],
    ["KVM_SET_LAPIC EINVAL", lapic(false), NO_LAPIC],
    ["KVM_SET_LAPIC EINVAL", lapic(true), undefined],
    ["KVM_SET_VAPIC_ADDR EINVAL", lapic(false), NO_LAPIC],
  ] as const)("%s", (call, evidence, reason) => {
    expect(why(call, {}, evidence)).toBe(reason);
  });

  test.each(["KVM_GET_PIT", "KVM_SET_PIT", "KVM_GET_PIT2", "KVM_SET_PIT2", "KVM_REINJECT_CONTROL"])(
    "%s, where ENXIO means that the VM has no PIT",
    (ioctl) => {
      expect(why(`${ioctl} ENXIO`, {}, { vm: { hasPit: () => false } })).toBe(
        "the VM has no PIT in the kernel: KVM_CREATE_PIT2 makes it",
      );
      expect(why(`${ioctl} ENXIO`, {}, { vm: { hasPit: () => true } })).toBeUndefined();
    },
  );

  test("an unknown chip, with the list of known chips", () => {
    expect(why("KVM_SET_IRQCHIP EINVAL", { chipId: 3 }, kernel)).toBe(
      "chipId 3: it must be 0 (PIC_MASTER), 1 (PIC_SLAVE) or 2 (IOAPIC)",
    );
    expect(why("KVM_SET_IRQCHIP EINVAL", { chipId: 2 }, kernel)).toBeUndefined();
  });

  test("a local APIC state with the id of another vCPU", () => {
    const evidence = { ...wide, ...lapic(true) };
    expect(why("KVM_SET_LAPIC EINVAL", {}, evidence)).toMatch(
      /^either in x2APIC mode .*must contain this vCPU's own id at 0x20: 0, or another cause$/,
    );
    const regs = (id: number): Uint8Array => {
      const bytes = new Uint8Array(1024);
      new DataView(bytes.buffer).setUint32(0x20, id, true);
      return bytes;
    };
    const mode = (apicBase: bigint) => ({
      ...evidence,
      vcpu: { ...evidence.vcpu, id: 0, sregs: () => ({ apicBase }) as never },
    });
    expect(why("KVM_SET_LAPIC EINVAL", regs(7), mode(0xfee0_0c00n))).toMatch(
      /^in x2APIC mode .* 0, not 7$/,
    );
    expect(why("KVM_SET_LAPIC EINVAL", regs(7), mode(0xfee0_0800n))).toBeUndefined();
    expect(why("KVM_SET_LAPIC EINVAL", regs(0), mode(0xfee0_0c00n))).toBeUndefined();
    expect(why("KVM_SET_LAPIC EINVAL", regs(7).subarray(0, 0x24), mode(0xfee0_0c00n))).toMatch(
      /not 7$/,
    );
    expect(why("KVM_SET_LAPIC EINVAL", regs(7).subarray(0, 0x23), mode(0xfee0_0c00n))).toMatch(
      /^either in x2APIC mode .* at 0x20: 0, or another cause$/,
    );
    expect(why("KVM_SET_LAPIC EINVAL", {}, mode(0xfee0_0800n))).toBeUndefined();
    expect(why("KVM_SET_LAPIC EINVAL", regs(7))).toBeUndefined();
    expect(why("KVM_SET_LAPIC EINVAL", regs(7), wide)).toBeUndefined();
    const off = new Map([["KVM_CAP_X2APIC_API", [2n]]] as const);
    const narrow = { ...mode(0xfee0_0c00n), vm: { enabled: () => off } };
    expect(why("KVM_SET_LAPIC EINVAL", regs(7), narrow)).toBeUndefined();
  });
});

describe("the reason of a failed KVM_INTERRUPT is stated for", () => {
  test.each([
    ["EINVAL", 256, "irq 256 is not a vector, 0 to 255"],
    ["EINVAL", 255, undefined],
    ["ENXIO", 32, "the VM's PICs are in the kernel: raise a line with KVM_IRQ_LINE instead"],
    [
      "EEXIST",
      32,
      "an interrupt of KVM_INTERRUPT is pending, and the vCPU has not accepted it yet",
    ],
  ])("%s of interrupt %i", (errno, irq, reason) => {
    expect(why(`KVM_INTERRUPT ${errno}`, { irq })).toBe(reason);
  });
});

describe("the reason of a failed KVM_SIGNAL_MSI is stated for a message", () => {
  test.each([
    ["without controllers", "EINVAL", {}, none, NONE],
    [
      "unknown flags",
      "EINVAL",
      { flags: 2 },
      kernel,
      "flags 0x2: bit 1 may not be set; Linux 7.2 has 0x1",
    ],
    [
      "a wide destination's reserved bits",
      "EINVAL",
      { addressHi: 0x101 },
      wide,
      "addressHi 0x101: bits 0-7 are reserved with KVM_X2APIC_API_USE_32BIT_IDS",
    ],
    ["the same without wide destinations", "EINVAL", { addressHi: 0x101 }, kernel, undefined],
    [
      "the same with another flag of the format",
      "EINVAL",
      { addressHi: 0x101 },
      irqchip("kernel", { enabled: () => new Map([["KVM_CAP_X2APIC_API", [2n]]] as const) }),
      undefined,
    ],
    ["nothing wrong", "EINVAL", { addressLo: 0xfee0_0000 }, wide, undefined],
    [
      "nobody there",
      "EPERM",
      { addressLo: 0xfee1_2000 },
      kernel,
      "no LAPIC is the destination: addressLo 0xfee12000 names the APIC id 0x12",
    ],
  ])("with %s", (_, errno, msi, evidence, reason) => {
    expect(why(`KVM_SIGNAL_MSI ${errno}`, msi, evidence)).toBe(reason);
  });
});

describe("the reason of a failed KVM_SET_GSI_ROUTING", () => {
  const route = (more: object): object => ({
    gsi: 1,
    type: 1,
    u: { irqchip: { irqchip: 2, pin: 1 } },
    ...more,
  });
  const set = (entries: readonly object[], evidence = kernel, more = {}): string | undefined =>
    why("KVM_SET_GSI_ROUTING EINVAL", { entries, ...more }, evidence);

  test.each([
    ["a far GSI", [route({ gsi: 4096 })], "entries[0].gsi 4096: GSIs end at 4095"],
    [
      "an unknown type",
      [route({ type: 3 })],
      "entries[0].type 3: on x86 it must be 1 (IRQCHIP), 2 (MSI), 4 (HV_SINT) or 5 (XEN_EVTCHN)",
    ],
    [
      "flags",
      [route({}), route({ gsi: 2, flags: 1 })],
      "entries[1].flags 0x1: bit 0 may not be set; Linux 7.2 has 0x0",
    ],
    [
      "a pin that the second PIC does not",
      [route({ u: { irqchip: { irqchip: 1, pin: 8 } } })],
      "entries[0].u.irqchip.pin 8: the PIC_SLAVE has pins 0 to 7",
    ],
    [
      "a pin that the IOAPIC does not",
      [route({ u: { irqchip: { irqchip: 2, pin: 24 } } })],
      "entries[0].u.irqchip.pin 24: the IOAPIC has pins 0 to 23",
    ],
    [
      "one GSI to a message and a chip",
      [route({ type: 2, u: { msi: {} } }), route({ u: { irqchip: { irqchip: 1, pin: 0 } } })],
      "entries[1].gsi 1: entries[0] already routes this GSI",
    ],
    [
      "a type that has no chip",
      [route({ type: 4, u: { hvSint: { vcpu: 0, sint: 99 } } })],
      undefined,
    ],
    [
      "a pin that the chip does not",
      [route({ u: { irqchip: { irqchip: 0, pin: 8 } } })],
      "entries[0].u.irqchip.pin 8: the PIC_MASTER has pins 0 to 7",
    ],
    [
      "an unknown chip is named with the known ones",
      [route({ u: { irqchip: { irqchip: 3, pin: 0 } } })],
      "entries[0].u.irqchip.irqchip 3: it must be 0 (PIC_MASTER), 1 (PIC_SLAVE) or 2 (IOAPIC)",
    ],
    [
      "one GSI twice to one chip",
      [route({}), route({})],
      "entries[1].gsi 1: entries[0] already routes this GSI",
    ],
    [
      "one GSI to a chip and a message",
      [route({}), route({ type: 2, u: { msi: {} } })],
      "entries[1].gsi 1: entries[0] already routes this GSI",
    ],
    [
      "one GSI to two chips",
      [route({}), route({ u: { irqchip: { irqchip: 0, pin: 1 } } })],
      undefined,
    ],
    ["nothing wrong", [route({}), route({ gsi: 2, type: 2, flags: 1, u: { msi: {} } })], undefined],
  ])("is stated for %s", (_, entries, reason) => {
    expect(set(entries)).toBe(reason);
  });

  test("is stated for a message that sets reserved bits of a destination with 32 bits", () => {
    const message = route({ type: 2, u: { msi: { addressHi: 0x101 } } });
    expect(set([message], wide)).toBe(
      "entries[0].u.msi.addressHi 0x101: bits 0-7 are reserved with KVM_X2APIC_API_USE_32BIT_IDS",
    );
    expect(set([message])).toBeUndefined();
  });

  test("is absent if the limits are unknown", () => {
    expect(set([route({})], {})).toBeUndefined();
    expect(set([route({ gsi: 5000 })], { vm: { irqchip: () => "kernel" } })).toBeUndefined();
  });

  test("is stated for a VM without interrupt controllers, or without the controller of a route", () => {
    expect(set([], none)).toBe(NONE);
    expect(set([route({})], split)).toMatch(
      /^entries\[0\]\.type 1 \(IRQCHIP\): with KVM_CAP_SPLIT_IRQCHIP/,
    );
  });

  test("is stated for too many routes, and for flags", () => {
    const many = vmWith({ KVM_CAP_IRQ_ROUTING: 1 }, { irqchip: () => "kernel" });
    expect(set([route({ gsi: 0 }), route({ gsi: 0 })], many)).toBe(
      "nr 2: KVM accepts at most 1 routes (KVM_CAP_IRQ_ROUTING)",
    );
    expect(set([], kernel, { flags: 1 })).toBe(
      "flags 0x1: bit 0 may not be set; Linux 7.2 has 0x0",
    );
  });
});

describe("the reason of a failed KVM_IRQFD", () => {
  test.each([
    [
      "unknown flags",
      "EINVAL",
      { flags: 4 },
      kernel,
      "flags 0x4: bit 2 may not be set; Linux 7.2 has 0x3",
    ],
    ["no controllers", "EINVAL", {}, none, NONE],
    [
      "a resampler without IOAPIC",
      "EINVAL",
      { flags: 2 },
      split,
      "KVM_IRQFD_FLAG_RESAMPLE needs the IOAPIC in the kernel, and the irqchip is split",
    ],
    [
      "flags that do not resample, without IOAPIC",
      "EINVAL",
      { gsi: 1 },
      split,
      "either a descriptor is not an eventfd, or another cause",
    ],
    [
      "a resampler to take off, without IOAPIC",
      "EINVAL",
      { flags: 3 },
      split,
      "either a descriptor is not an eventfd, or another cause",
    ],
    [
      "a wrong file",
      "EINVAL",
      {},
      kernel,
      "either a descriptor is not an eventfd, or another cause",
    ],
    [
      "a wrong file to take off",
      "EINVAL",
      { flags: 1 },
      none,
      "either a descriptor is not an eventfd, or another cause",
    ],
    ["an unknown VM", "EINVAL", {}, {}, "either a descriptor is not an eventfd, or another cause"],
    ["a closed file", "EBADF", {}, kernel, undefined],
  ])("is stated for %s", (_, errno, sent, evidence, reason) => {
    expect(why(`KVM_IRQFD ${errno}`, { gsi: 1, ...sent }, evidence)).toBe(reason);
  });

  test.each([
    ["here", /^this eventfd already raises an interrupt of this VM/],
    ["elsewhere", /^this eventfd raises an interrupt of another VM, and since Linux 6.17/],
    [
      "nowhere",
      /^either another process or device uses this eventfd exclusively, or another cause$/,
    ],
    [undefined, /^either this eventfd already .* of this VM.*, or this eventfd .* of another VM/],
  ] as const)("is that the eventfd already raises an interrupt %s, for EBUSY", (place, reason) => {
    expect(why("KVM_IRQFD EBUSY", {}, vmWith({}, { irqfdPlace: () => place }))).toMatch(reason);
  });
});

test.each(["KVM_IRQFD", "KVM_IOEVENTFD"])(
  "the failed call %s has no reason if nothing is known about the VM",
  (ioctl) => {
    expect(why(`${ioctl} EINVAL`)).toBeUndefined();
    const bytes = new Uint8Array(ioctl === "KVM_IRQFD" ? 32 : 64);
    expect(why(`${ioctl} EINVAL`, bytes)).toMatch(/^either a descriptor is not an eventfd/);
  },
);

test('the reason of EBUSY is "this VM or another VM" if it is unknown which VM uses the eventfd', () => {
  const text =
    "either this eventfd already raises an interrupt of this VM: remove that connection, or use another eventfd, or this " +
    "eventfd raises an interrupt of another VM, and since Linux 6.17 it can belong to one VM only";
  expect(why("KVM_IRQFD EBUSY")).toBe(text);
  const asked: unknown[] = [];
  const vm = vmWith({}, { irqfdPlace: (file) => void asked.push(file) });
  const file = {};
  expect(why("KVM_IRQFD EBUSY", {}, vm, [file])).toBe(text);
  expect(asked.every((one) => one === file)).toBe(true);
});

describe("the reason of a failed KVM_IOEVENTFD is stated for", () => {
  test.each([
    [
      "a wrap to 0",
      "EINVAL",
      { len: 8, addr: 2n ** 64n - 8n },
      "addr 0xfffffffffffffff8 and len 8 reach past 2^64",
    ],
    ["a length", "EINVAL", { len: 3 }, "len 3: KVM takes 0 (any), 1, 2, 4 and 8"],
    [
      "a wrap",
      "EINVAL",
      { len: 8, addr: 2n ** 64n - 1n },
      "addr 0xffffffffffffffff and len 8 reach past 2^64",
    ],
    [
      "unknown flags",
      "EINVAL",
      { flags: 0x80 },
      "flags 0x80: bit 7 may not be set; Linux 7.2 has 0x1f",
    ],
    [
      "any length and a value",
      "EINVAL",
      { flags: 1 },
      "len 0 matches any length, but KVM_IOEVENTFD_FLAG_DATAMATCH requires a length",
    ],
    [
      "a wrong file",
      "EINVAL",
      { len: 4 },
      "either a descriptor is not an eventfd, or another cause",
    ],
    [
      "a wrong file, for any length",
      "EINVAL",
      { len: 0 },
      "either a descriptor is not an eventfd, or another cause",
    ],
    [
      "a wrong file to take off",
      "EINVAL",
      { len: 3, flags: 4 },
      "either a descriptor is not an eventfd, or another cause",
    ],
    [
      "the same again",
      "EEXIST",
      { addr: 0x510n, flags: 2 },
      "port 0x510 already has an eventfd that would match the same writes",
    ],
    [
      "nothing there",
      "ENOENT",
      { addr: 0x1000n, flags: 4 },
      "no such eventfd is at address 0x1000: flags, len, datamatch and the eventfd must be those of its registration",
    ],
    ["a full bus", "ENOSPC", {}, "the bus has 1000 devices, the maximum of KVM"],
  ])("%s", (_, errno, sent, reason) => {
    expect(why(`KVM_IOEVENTFD ${errno}`, sent)).toBe(reason);
  });
});

test("the reason of a refused coalesced zone is stated for memory and for ports", () => {
  expect(why("KVM_REGISTER_COALESCED_MMIO EINVAL", { pio: 2 })).toBe(
    "pio 2: it must be 0 (memory) or 1 (ports)",
  );
  expect(why("KVM_UNREGISTER_COALESCED_MMIO EINVAL", { pio: 1 })).toBeUndefined();
  expect(why("KVM_REGISTER_COALESCED_MMIO ENOSPC")).toMatch(/1000 devices/);
});
