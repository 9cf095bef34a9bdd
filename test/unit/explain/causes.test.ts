/**
 * Tests of every rule of lib/explain: with an argument that has the rule's cause, and with an argument for which the
 * same errno has another cause. The test fails for a rule that is not in the tables below. sentences.json contains the
 * sentences of the rules.
 */
import { describe, expect, test } from "vitest";
import { type Evidence, everyRule, type VmEvidence } from "../../../lib/explain/index.ts";
import type { Verdict } from "../../../lib/explain/verdict.ts";
import { refusalOf, tableWith, vcpuWith, vcpuWithoutTable, vmWith } from "./refused.ts";
import list from "./sentences.json" with { type: "json" };

/**
 * For each rule: the sentence, the place in the kernel, and the sentence without arguments and evidence. `always` lists
 * the rules whose sentence is the same without arguments and evidence.
 */
const { sentences, sources, unsent, always } = list;

/** The arguments of a call, the evidence, and the call's files or memory. */
type Given = Parameters<typeof refusalOf> extends [string, ...infer Rest] ? Rest : never;
type Sent = NonNullable<Given[0]>;

/**
 * A row: the call, the errno and, for some rules, the kind of handle; the rule; a case in which the cause holds; a case
 * with another cause.
 */
type Proof = readonly [call: string, cause: string, holds: Given, other: Given];

const NONE: Evidence = {};
const vm = (more: VmEvidence, capabilities: Readonly<Record<string, number>> = {}): Evidence =>
  vmWith(capabilities, more);
const ids = (...vcpuIds: readonly number[]): Evidence => vm({ vcpuIds: () => vcpuIds });
const irqchip = (mode: "none" | "split" | "kernel"): Evidence => vm({ irqchip: () => mode });
const lapic = (has: boolean): Evidence => ({ vcpu: { id: 0, hasLapic: () => has } });
const pit = (has: boolean): Evidence => vm({ hasPit: () => has });
const on = (name: string, ...args: readonly bigint[]): VmEvidence => ({
  enabled: () => new Map([[name, args]]) as never,
});
const slotAt = (guestPhysAddr: bigint, flags = 0): VmEvidence => ({
  slots: () => [{ slot: 1, flags, guestPhysAddr, memorySize: 0x4000n }],
});
const noSlots: VmEvidence = { slots: () => [] };
const region = (more: object = {}): Sent => ({
  slot: 2,
  flags: 0,
  guestPhysAddr: 0x10_0000n,
  memorySize: 0x2000n,
  ...more,
});
const cap = (name: string, ...args: readonly bigint[]): Sent => ({ cap: name, args });
const bit = (n: number): bigint => 1n << BigInt(n);
const run = (more: object, mode?: "none" | "kernel"): Evidence => ({
  vm: { check: () => 7, ...(mode && { irqchip: () => mode }) },
  vcpu: { id: 0, run: () => ({ cr8: 0n, kvmValidRegs: 0n, kvmDirtyRegs: 0n, ...more }) },
});
const xsave = (at: number, value: number): Uint8Array => {
  const area = new Uint8Array(4096);
  area[at] = value;
  return area;
};
const mxcsr = (value: number): Uint8Array => {
  const area = xsave(512, 1);
  new DataView(area.buffer).setUint32(24, value, true);
  return area;
};
const xcr0: Evidence = {
  kvm: { supportedCpuid: () => [{ ...tableWith()[3], function: 0xd, eax: 7 } as never] },
};
const ran = (hasEntered: boolean): Evidence => ({
  vcpu: { id: 0, hasRun: () => true, hasEntered: () => hasEntered, cpuid: () => tableWith() },
});
const width = (bits: number): object => ({ function: 0x8000_0008, eax: bits << 8 });
const svm = (efer: bigint): Evidence => ({
  kvm: { supportedCpuid: () => tableWith("svm") },
  vcpu: { id: 0, sregs: () => ({ efer }) as never },
});
const apic = (id: number): Uint8Array => {
  const regs = new Uint8Array(1024);
  regs[0x20] = id;
  return regs;
};
const x2apic = (apicBase: bigint): Evidence => ({
  vm: on("KVM_CAP_X2APIC_API", 1n),
  vcpu: { id: 0, hasLapic: () => true, sregs: () => ({ apicBase }) as never },
});
const HALF = 0x800n;
const TOP = bit(64) - 0x1000n;

/** Rules that prove their cause by the arguments and the evidence. */
// biome-ignore format: one rule per line
const PROVEN: readonly Proof[] = [
  ["mmap EINVAL", "no bytes", [{ length: 0 }], [{ length: 4096 }]],
  ["mmap EINVAL", "VM without rings", [{ what: "dirty ring" }, vm({ enabled: () => new Map() })], [{ what: "dirty ring" }, vm(on("KVM_CAP_DIRTY_LOG_RING", 4096n))]],
  ["mmap EINVAL", "no pool of huge pages", [{ pageSize: 2 ** 40 }], [{ byteLength: 1 }]],
  ["mmap EINVAL", "offset inside a page", [{ offset: 1 }], [{ offset: 4096 }]],
  ["mmap EINVAL", "end of the file", [{ path: import.meta.filename, offset: 2 ** 30 }], [{ path: import.meta.filename, offset: 0 }]],
  ["mmap ENODEV", "no regular file", [{ path: "/dev/null" }], [{ path: import.meta.filename }]],
  ["fallocate EINVAL", "half a page", [{ offset: HALF, length: 0x1000n }], [{ offset: 0n, length: 0n }]],
  ["fallocate EINVAL", "no length", [{ offset: 0n, length: 0n }], [{ offset: HALF, length: 0x1000n }]],
  ["fallocate EINVAL", "negative", [{ offset: bit(63), length: 0x1000n }], [{ offset: 0n, length: 0n }]],
  ["fallocate EINVAL", "past the end", [{ offset: 0x1000n, length: 0x1000n, size: 0x1000n }], [{ offset: 0n, length: 0x1000n, size: 0x1000n }]],
  ["pread EIO", "VM of another process", [{}, vm({ isForeign: () => true })], [{}, vm({ isForeign: () => false })]],
  ["write EINVAL", "highest value", [{ value: bit(64) - 1n }], [{ value: 1n }]],
  ["madvise EINVAL", "no transparent huge pages", [{ advice: "MADV_HUGEPAGE", sysfs: import.meta.dirname }], [{ advice: "MADV_MERGEABLE", sysfs: import.meta.dirname }]],
  ["madvise EINVAL", "no merging of pages", [{ advice: "MADV_MERGEABLE", sysfs: import.meta.dirname }], [{ advice: "MADV_HUGEPAGE", sysfs: import.meta.dirname }]],
  ["madvise EINVAL", "old kernel", [{ advice: "MADV_POPULATE_WRITE", kernel: "5.10.0" }], [{ advice: "MADV_POPULATE_WRITE", kernel: "6.1.0" }]],
  ["KVM_CREATE_VM EINVAL", "unknown type", [1, { kvm: { check: () => 1 } }], [1, { kvm: { check: () => 3 } }]],
  ["KVM_GET_MSR_INDEX_LIST E2BIG", "too little room", [], []],
  ["KVM_CREATE_VCPU EEXIST", "id taken", [3, ids(3)], [0, ids(3)]],
  ["KVM_CREATE_VCPU EEXIST", "slot over the APIC's page", [0, vm(slotAt(0xfedf_f000n))], [0, vm(slotAt(0x1000n))]],
  ["KVM_CREATE_VCPU EEXIST", "slot over the identity map", [0, vm({ ...slotAt(0xfffb_c000n), identityMapAddr: () => 0xfffb_c000n })], [0, vm({ ...slotAt(0xfffb_c000n), identityMapAddr: () => 0x1000n })]],
  ["KVM_CREATE_VCPU EINVAL", "id too large", [9, vmWith({ KVM_CAP_MAX_VCPU_ID: 9 })], [8, vmWith({ KVM_CAP_MAX_VCPU_ID: 9 })]],
  ["KVM_CREATE_VCPU EINVAL", "too many vCPUs", [9, vm({ vcpuIds: () => [0] }, { KVM_CAP_MAX_VCPUS: 1 })], [9, vm({ vcpuIds: () => [0] }, { KVM_CAP_MAX_VCPUS: 2 })]],
  ["KVM_SET_IDENTITY_MAP_ADDR EINVAL", "after the first vCPU", [{}, ids(0)], [{}, ids()]],
  ["KVM_SET_BOOT_CPU_ID EINVAL", "id too large", [9, vmWith({ KVM_CAP_MAX_VCPU_ID: 9 })], [1, vmWith({ KVM_CAP_MAX_VCPU_ID: 9 })]],
  ["KVM_SET_TSS_ADDR EINVAL", "above 4 GiB", [0xffff_e000], [0xffff_d000]],
  ["KVM_SET_TSS_ADDR EEXIST", "set before", [0x8000, vm({ tssAddr: () => 0x8000n })], [0x8000, vm({ tssAddr: () => null })]],
  ["KVM_SET_TSS_ADDR EEXIST", "slot in the way", [0x8000, vm(slotAt(0x8000n))], [0x8000, vm(slotAt(0x10000n))]],
  ["KVM_SET_NR_MMU_PAGES EINVAL", "too few", [63], [64]],
  ["KVM_ENABLE_CAP EINVAL vm", "flags", [{ cap: 213, flags: 1 }], [{ cap: 213, flags: 0 }]],
  ["KVM_ENABLE_CAP EINVAL vm", "only for KVM_CHECK_EXTENSION", [cap("KVM_CAP_NR_MEMSLOTS", 1n)], [cap("KVM_CAP_HALT_POLL", 1n)]],
  ["KVM_ENABLE_CAP EINVAL vm", "wrong kind of handle", [cap("KVM_CAP_HYPERV_SYNIC", 0n)], [cap("KVM_CAP_NR_MEMSLOTS", 0n)]],
  ["KVM_ENABLE_CAP EINVAL vm", "missing capability", [cap("KVM_CAP_HALT_POLL", 0n), vmWith({ KVM_CAP_HALT_POLL: 0 })], [cap("KVM_CAP_NR_MEMSLOTS", 0n)]],
  ["KVM_ENABLE_CAP EINVAL vm", "argument or order", [cap("KVM_CAP_HALT_POLL", bit(32))], [cap("KVM_CAP_NR_MEMSLOTS", 1n)]],
  ["KVM_ENABLE_CAP EEXIST vm", "irqchip made before", [cap("KVM_CAP_SPLIT_IRQCHIP", 24n), irqchip("kernel")], [cap("KVM_CAP_SPLIT_IRQCHIP", 24n), irqchip("none")]],
  ["KVM_ENABLE_CAP EEXIST vm", "after the first vCPU", [cap("KVM_CAP_SPLIT_IRQCHIP", 24n), ids(0)], [cap("KVM_CAP_SPLIT_IRQCHIP", 24n), ids()]],
  ["KVM_ENABLE_CAP ENXIO vm", "no irqchip", [cap("KVM_CAP_X86_APIC_BUS_CYCLES_NS", 1n), irqchip("none")], [cap("KVM_CAP_X86_APIC_BUS_CYCLES_NS", 1n), irqchip("kernel")]],
  ["KVM_ENABLE_CAP ENOTTY vm", "missing capability", [cap("KVM_CAP_HALT_POLL", 0n), vmWith({ KVM_CAP_HALT_POLL: 0 })], [cap("KVM_CAP_HALT_POLL", 0n), vmWith({ KVM_CAP_HALT_POLL: 1 })]],
  ["KVM_SET_USER_MEMORY_REGION EEXIST", "another slot", [region(), vm(slotAt(0x10_1000n))], [region(), vm(slotAt(0x1000n))]],
  ["KVM_SET_USER_MEMORY_REGION EINVAL", "flags", [region({ flags: 0x80 })], [region()]],
  ["KVM_SET_USER_MEMORY_REGION EINVAL", "alignment", [region({ memorySize: HALF })], [region()]],
  ["KVM_SET_USER_MEMORY_REGION EINVAL", "slot number", [region({ slot: 9 }), vmWith({ KVM_CAP_NR_MEMSLOTS: 9 })], [region({ slot: 8 }), vmWith({ KVM_CAP_NR_MEMSLOTS: 9 })]],
  ["KVM_SET_USER_MEMORY_REGION EINVAL", "size", [region({ guestPhysAddr: TOP })], [region()]],
  ["KVM_SET_USER_MEMORY_REGION EINVAL", "slot that cannot change", [region({ slot: 1 }), vm(slotAt(0n))], [region({ slot: 1, memorySize: 0x4000n }), vm(slotAt(0n))]],
  ["KVM_SET_USER_MEMORY_REGION EINVAL", "address too wide", [region({ guestPhysAddr: bit(52) })], [region()]],
  ["KVM_CREATE_GUEST_MEMFD EINVAL", "flags", [{ size: 0x1000n, flags: 4n }], [{ size: 0n, flags: 0n }]],
  ["KVM_CREATE_GUEST_MEMFD EINVAL", "no size", [{ size: 0n }], [{ size: HALF }]],
  ["KVM_CREATE_GUEST_MEMFD EINVAL", "negative size", [{ size: bit(63) }], [{ size: HALF }]],
  ["KVM_CREATE_GUEST_MEMFD EINVAL", "alignment", [{ size: HALF }], [{ size: bit(63) }]],
  ["KVM_SET_MEMORY_ATTRIBUTES EINVAL", "flags", [{ flags: 1n }], [{ size: HALF }]],
  ["KVM_SET_MEMORY_ATTRIBUTES EINVAL", "attributes", [{ attributes: 1n }, vmWith({ KVM_CAP_MEMORY_ATTRIBUTES: 8 })], [{ attributes: 8n }, vmWith({ KVM_CAP_MEMORY_ATTRIBUTES: 8 })]],
  ["KVM_SET_MEMORY_ATTRIBUTES EINVAL", "range", [{ address: TOP, size: 0x1000n }], [{ address: 0n, size: HALF }]],
  ["KVM_SET_MEMORY_ATTRIBUTES EINVAL", "alignment", [{ address: 0n, size: HALF }], [{ address: TOP, size: 0x1000n }]],
  ["KVM_PRE_FAULT_MEMORY EINVAL", "flags", [{ flags: 1n }], [{ size: HALF }]],
  ["KVM_PRE_FAULT_MEMORY EINVAL", "alignment", [{ gpa: HALF, size: 0x1000n }], [{ gpa: TOP, size: 0x1000n }]],
  ["KVM_PRE_FAULT_MEMORY EINVAL", "range", [{ gpa: TOP, size: 0x1000n }], [{ gpa: HALF, size: 0x1000n }]],
  ["KVM_PRE_FAULT_MEMORY ENOENT", "no slot", [{ gpa: 0x8000n, size: 0x1000n }, vm(slotAt(0n))], [{ gpa: 0x1000n, size: 0x1000n }, vm(slotAt(0n))]],
  ["KVM_GET_DIRTY_LOG ENOENT", "slot without a log", [{ slot: 1 }, vm(slotAt(0n))], [{ slot: 1 }, vm(slotAt(0n, 1))]],
  ["KVM_GET_DIRTY_LOG EINVAL", "slot number", [{ slot: 9 }, vmWith({ KVM_CAP_NR_MEMSLOTS: 9 })], [{ slot: 8 }, vmWith({ KVM_CAP_NR_MEMSLOTS: 9 })]],
  ["KVM_GET_DIRTY_LOG EFAULT", "short bitmap", [{ slot: 1 }, vm(slotAt(0n)), [new Uint8Array(4)]], [{ slot: 1 }, vm(slotAt(0n)), [new Uint8Array(8)]]],
  ["KVM_CLEAR_DIRTY_LOG ENOENT", "slot without a log", [{ slot: 1 }, vm(slotAt(0n))], [{ slot: 1 }, vm(slotAt(0n, 1))]],
  ["KVM_CLEAR_DIRTY_LOG EINVAL", "slot number", [{ slot: 9 }, vmWith({ KVM_CAP_NR_MEMSLOTS: 9 })], [{ slot: 8 }, vmWith({ KVM_CAP_NR_MEMSLOTS: 9 })]],
  ["KVM_CLEAR_DIRTY_LOG EINVAL", "range of pages", [{ slot: 1, firstPage: 1n }], [{ slot: 1, firstPage: 64n }]],
  ["KVM_CLEAR_DIRTY_LOG EFAULT", "short bitmap", [{ numPages: 65 }, NONE, [new Uint8Array(8)]], [{ numPages: 64 }, NONE, [new Uint8Array(8)]]],
  ["KVM_CREATE_IRQCHIP EEXIST", "split irqchip", [{}, irqchip("split")], [{}, irqchip("kernel")]],
  ["KVM_GET_IRQCHIP ENXIO", "no PIC", [{ chipId: 0 }, irqchip("split")], [{ chipId: 0 }, irqchip("kernel")]],
  ["KVM_GET_IRQCHIP EINVAL", "unknown chip", [{ chipId: 3 }], [{ chipId: 2 }]],
  ["KVM_GET_PIT2 ENXIO", "no PIT", [{}, pit(false)], [{}, pit(true)]],
  ["KVM_IRQ_LINE ENXIO", "no irqchip", [{}, irqchip("none")], [{}, irqchip("kernel")]],
  ["KVM_SET_GSI_ROUTING EINVAL", "too many routes", [{ entries: [1, 2].map((gsi) => ({ gsi })) }, vmWith({ KVM_CAP_IRQ_ROUTING: 1 })], [{ entries: [{ gsi: 1 }] }, vmWith({ KVM_CAP_IRQ_ROUTING: 1 })]],
  ["KVM_SET_GSI_ROUTING EINVAL", "flags", [{ flags: 1 }], [{ flags: 0 }]],
  ["KVM_SET_GSI_ROUTING EINVAL", "entry", [{ entries: [{ gsi: 1, type: 9 }] }], [{ entries: [{ gsi: 1, type: 2 }] }]],
  ["KVM_SIGNAL_MSI EINVAL", "flags", [{ flags: 2 }], [{ flags: 0 }]],
  ["KVM_SIGNAL_MSI EINVAL", "reserved address bits", [{ addressHi: 1 }, vm(on("KVM_CAP_X2APIC_API", 1n))], [{ addressHi: 0 }, vm(on("KVM_CAP_X2APIC_API", 1n))]],
  ["KVM_IRQFD EINVAL", "flags", [{ flags: 8 }], [{ flags: 1 }]],
  ["KVM_IRQFD EINVAL", "no irqchip", [{ gsi: 1 }, irqchip("none")], [{ gsi: 1 }, irqchip("kernel")]],
  ["KVM_IRQFD EINVAL", "resample without IOAPIC", [{ flags: 2 }, irqchip("split")], [{ flags: 2 }, irqchip("kernel")]],
  ["KVM_IRQFD EBUSY", "irqfd of this VM", [{}, vm({ irqfdPlace: () => "here" })], [{}, vm({ irqfdPlace: () => "elsewhere" })]],
  ["KVM_IRQFD EBUSY", "irqfd of another VM", [{}, vm({ irqfdPlace: () => "elsewhere" })], [{}, vm({ irqfdPlace: () => "here" })]],
  ["KVM_IOEVENTFD EINVAL", "length", [{ len: 3 }], [{ len: 4 }]],
  ["KVM_IOEVENTFD EINVAL", "end of all addresses", [{ len: 8, addr: bit(64) - 1n }], [{ len: 8 }]],
  ["KVM_IOEVENTFD EINVAL", "flags", [{ flags: 0x80 }], [{ flags: 0 }]],
  ["KVM_IOEVENTFD EINVAL", "match without length", [{ len: 0, flags: 1 }], [{ len: 4, flags: 1 }]],
  ["KVM_REGISTER_COALESCED_MMIO EINVAL", "pio", [{ pio: 2 }], [{ pio: 1 }]],
  ["KVM_X86_SET_MSR_FILTER EINVAL", "flags", [{ flags: 2 }], [{ flags: 1 }]],
  ["KVM_X86_SET_MSR_FILTER EINVAL", "nothing allowed", [{ flags: 1 }], [{ flags: 0 }]],
  ["KVM_X86_SET_MSR_FILTER EINVAL", "range", [{ ranges: [{ flags: 0, nmsrs: 8 }] }], [{ ranges: [{ flags: 1, nmsrs: 8 }] }]],
  ["KVM_SET_PMU_EVENT_FILTER EINVAL", "action", [{ action: 2 }], [{ action: 1 }]],
  ["KVM_SET_PMU_EVENT_FILTER EINVAL", "flags", [{ flags: 2 }], [{ flags: 0 }]],
  ["KVM_SET_PMU_EVENT_FILTER EINVAL", "masked event", [{ flags: 1, events: [bit(20)] }], [{ events: [bit(20)] }]],
  ["KVM_SET_PMU_EVENT_FILTER E2BIG", "too many events", [{ nevents: 301 }], [{ nevents: 300 }]],
  ["KVM_SET_CLOCK EINVAL", "flags", [{ flags: 1 }], [{ flags: 2 }]],
  ["KVM_SET_TSC_KHZ EINVAL vm", "after the first vCPU", [1000, vm({ vcpuIds: () => [0] }, { KVM_CAP_TSC_CONTROL: 0 })], [1000, vm({ vcpuIds: () => [0] }, { KVM_CAP_TSC_CONTROL: 1 })]],
  ["KVM_SET_TSC_KHZ EINVAL vm", "too high for a VM", [1000, vm({ vcpuIds: () => [] }, { KVM_CAP_TSC_CONTROL: 1 })], [1000, vm({ vcpuIds: () => [0] }, { KVM_CAP_TSC_CONTROL: 1 })]],
  ["KVM_SET_TSC_KHZ EINVAL vcpu", "too low to catch up", [1000, vmWith({ KVM_CAP_TSC_CONTROL: 0 })], [1000, vmWith({ KVM_CAP_TSC_CONTROL: 1 })]],
  ["KVM_SET_TSC_KHZ EINVAL vcpu", "out of reach", [1000, vmWith({ KVM_CAP_TSC_CONTROL: 1 })], [1000, vmWith({ KVM_CAP_TSC_CONTROL: 0 })]],
  ["KVM_RUN EINVAL", "valid registers", [{}, run({ kvmValidRegs: 8n })], [{}, run({ kvmDirtyRegs: 8n })]],
  ["KVM_RUN EINVAL", "dirty registers", [{}, run({ kvmDirtyRegs: 8n })], [{}, run({ kvmValidRegs: 8n })]],
  ["KVM_RUN EINVAL", "special registers", [{}, run({ kvmDirtyRegs: 2n })], [{}, run({ kvmDirtyRegs: 4n })]],
  ["KVM_RUN EINVAL", "events", [{}, run({ kvmDirtyRegs: 4n })], [{}, run({ kvmDirtyRegs: 2n })]],
  ["KVM_RUN EINVAL", "task priority", [{}, run({ cr8: 16n }, "none")], [{}, run({ cr8: 16n }, "kernel")]],
  ["KVM_SET_SIGNAL_MASK EINVAL", "length", [{ len: 16, sigset: new Uint8Array(16) }], [{ len: 8, sigset: new Uint8Array(8) }]],
  ["KVM_SET_CPUID2 EFAULT", "count past the entries", [{ nent: 2, entries: [] }], [{ nent: 0, entries: [] }]],
  ["KVM_SET_CPUID2 EINVAL", "address width", [{ entries: [width(49)] }], [{ entries: [width(49)] }, ran(true)]],
  ["KVM_SET_CPUID2 EINVAL", "table of a vCPU that has run", [{ entries: [] }, ran(true)], [{ entries: [width(49)] }]],
  ["KVM_SET_SREGS EINVAL", "mode", [{ efer: bit(10) }], [{ cr0: bit(31) }]],
  ["KVM_SET_SREGS EINVAL", "CR4", [{ cr4: bit(12) }, vcpuWith([], ["la57"])], [{ cr4: bit(12) }, vcpuWith(["la57"])]],
  ["KVM_SET_SREGS EINVAL", "CR0", [{ cr0: bit(31) }], [{ efer: bit(10) }]],
  ["KVM_SET_SREGS EINVAL", "APIC base", [{ apicBase: 0x401n }], [{ cr0: bit(31) }]],
  ["KVM_SET_SREGS2 EINVAL", "flags", [{ flags: 2n }], [{ flags: 0n }]],
  ["KVM_SET_SREGS2 EINVAL", "PDPTRs", [{ flags: 1n }], [{ flags: 1n, cr0: bit(31), cr4: bit(5) }]],
  ["KVM_SET_XCRS EINVAL", "too many registers", [{ nrXcrs: 17 }], [{ nrXcrs: 1 }]],
  ["KVM_SET_XCRS EINVAL", "flags", [{ flags: 1 }], [{ flags: 0 }]],
  ["KVM_SET_XCRS EINVAL", "XCR0", [{ nrXcrs: 1, xcrs: [{ xcr: 0, value: 2n }] }], [{ nrXcrs: 1, xcrs: [{ xcr: 0, value: 1n }] }]],
  ["KVM_SET_XCRS EINVAL", "no XSAVE", [{}, vmWith({ KVM_CAP_XCRS: 0 })], [{}, vmWith({ KVM_CAP_XCRS: 1 })]],
  ["KVM_SET_XSAVE EINVAL", "components", [xsave(512, 8), xcr0], [xsave(512, 7), xcr0]],
  ["KVM_SET_XSAVE EINVAL", "compact form", [xsave(520, 1)], [xsave(528, 1)]],
  ["KVM_SET_XSAVE EINVAL", "reserved header", [xsave(528, 1)], [xsave(520, 1)]],
  ["KVM_SET_XSAVE EINVAL", "mxcsr", [mxcsr(0x1_0000)], [mxcsr(0x1f80)]],
  ["KVM_SET_XSAVE EFAULT", "short", [new Uint8Array(4096), vmWith({ KVM_CAP_XSAVE2: 8192 })], [new Uint8Array(4096), vmWith({ KVM_CAP_XSAVE2: 4096 })]],
  ["KVM_GET_XSAVE EINVAL", "larger state", [{}, vmWith({ KVM_CAP_XSAVE2: 8192 })], [{}, vmWith({ KVM_CAP_XSAVE2: 4096 })]],
  ["KVM_SET_VCPU_EVENTS EINVAL", "flags", [{ flags: 0x40 }], [{ flags: 0 }]],
  ["KVM_SET_VCPU_EVENTS EINVAL", "payload not enabled", [{ flags: 0x10 }, vm({ enabled: () => new Map() })], [{ flags: 0x10 }, vm(on("KVM_CAP_EXCEPTION_PAYLOAD", 1n))]],
  ["KVM_SET_VCPU_EVENTS EINVAL", "exception", [{ exception: { injected: 1, nr: 32 } }], [{ exception: { injected: 1, nr: 13 } }]],
  ["KVM_SET_VCPU_EVENTS EINVAL", "no SMM", [{ flags: 8, smi: { pending: 1 } }, vmWith({ KVM_CAP_X86_SMM: 0 })], [{ flags: 8, smi: { pending: 1 } }, vmWith({ KVM_CAP_X86_SMM: 1 })]],
  ["KVM_SET_VCPU_EVENTS EINVAL", "triple fault not enabled", [{ flags: 0x20 }, vm({ enabled: () => new Map() })], [{ flags: 0x20 }, vm(on("KVM_CAP_X86_TRIPLE_FAULT_EVENT", 1n))]],
  ["KVM_SET_MP_STATE EINVAL", "unknown state", [{ mpState: 5 }], [{ mpState: 3 }]],
  ["KVM_SET_MP_STATE EINVAL", "no LAPIC", [{ mpState: 3 }, lapic(false)], [{ mpState: 3 }, lapic(true)]],
  ["KVM_SET_DEBUGREGS EINVAL", "flags", [{ flags: 1n }], [{ dr7: bit(32) }]],
  ["KVM_SET_DEBUGREGS EINVAL", "reserved bits", [{ dr7: bit(32) }], [{ flags: 1n }]],
  ["KVM_GET_LAPIC EINVAL", "no LAPIC", [{}, lapic(false)], [{}, lapic(true)]],
  ["KVM_SET_LAPIC EINVAL", "id of another vCPU", [apic(7), x2apic(0xc00n)], [apic(7), x2apic(0x800n)]],
  ["KVM_SET_VAPIC_ADDR EINVAL", "no LAPIC", [{ vapicAddr: 0n }, lapic(false)], [{ vapicAddr: 0n }, lapic(true)]],
  ["KVM_SET_VAPIC_ADDR EINVAL", "no memory there", [{ vapicAddr: 0x1000n }, vm(noSlots)], [{ vapicAddr: 0x1000n }, vm(slotAt(0x1000n))]],
  ["KVM_TPR_ACCESS_REPORTING EINVAL", "flags", [{ flags: 1 }], [{ flags: 0 }]],
  ["KVM_INTERRUPT EINVAL", "no vector", [{ irq: 256 }], [{ irq: 255 }]],
  ["KVM_X86_SETUP_MCE EINVAL", "number of banks", [{ mcgCap: 33n }, vmWith({ KVM_CAP_MCE: 32 })], [{ mcgCap: 32n }, vmWith({ KVM_CAP_MCE: 32 })]],
  ["KVM_X86_SETUP_MCE EINVAL", "unsupported bits", [{ mcgCap: bit(25) }, { kvm: { mceCap: () => 0n } }], [{ mcgCap: bit(25) }, { kvm: { mceCap: () => bit(25) } }]],
  ["KVM_X86_SET_MCE EINVAL", "not valid", [{ status: 1n }], [{ status: bit(63) }]],
  ["KVM_GET_NESTED_STATE EINVAL", "no nesting", [{}, vmWith({ KVM_CAP_NESTED_STATE: 0 })], [{}, vmWith({ KVM_CAP_NESTED_STATE: 4224 })]],
  ["KVM_SET_NESTED_STATE EINVAL", "header", [{ size: 64 }], [{ size: 128 }]],
  ["KVM_SET_NESTED_STATE EINVAL", "format", [{ size: 128, format: 0 }, svm(0n)], [{ size: 128, format: 1 }, svm(0n)]],
  ["KVM_SET_NESTED_STATE EINVAL", "SVM state", [{ size: 128, format: 1, flags: 0 }, svm(0n)], [{ size: 128, format: 1, flags: 0x100 }, svm(0n)]],
  ["any call EIO", "VM of another process", [{}, vm({ isForeign: () => true })], [{}, vm({ isDead: () => true })]],
  ["any call EIO", "dead VM", [{}, vm({ isDead: () => true })], [{}, vm({ isForeign: () => true })]],
];

/** Rules that state only a possible cause, or whose errno is returned in only one place in the kernel. */
// biome-ignore format: one rule per line
const OPEN: readonly (readonly [call: string, cause: string, ...given: Given])[] = [
  ["open ENOENT", "no module", { path: "/dev/kvm" }],
  [
    "open ENOENT",
    "no device in this container",
    { path: "/dev/kvm", vendor: "kvm_amd" },
  ],
  ["open ENOENT", "no virtualisation", { path: "/dev/kvm" }],
  ["open ENOENT", "no file", { path: "/nope" }],
  ["open EACCES", "security module", { path: "/dev/kvm" }],
  ["open EPERM", "container", { path: "/dev/kvm" }],
  ["open EPERM", "security module", {}],
  ["open EBUSY", "another user", {}],
  ["open ENODEV", "no driver", {}],
  ["open ENOTTY", "not KVM", {}],
  ["open EACCES", "no member of the group", { path: "/nowhere" }],
  ["arch_prctl EBUSY", "after the first vCPU"],
  ["arch_prctl EOPNOTSUPP", "CPU without it"],
  ["arch_prctl EOPNOTSUPP", "no permission needed"],
  ["arch_prctl EINVAL", "unknown component"],
  ["arch_prctl EINVAL", "old kernel"],
  ["mmap ENODEV", "guest_memfd without MMAP", { what: "guest_memfd" }],
  ["mmap ENODEV", "file system without mmap", { path: "/proc/self/maps" }],
  ["mmap ENOMEM", "memory"],
  ["mmap ENOMEM", "address space"],
  ["mmap ENOMEM", "mappings"],
  ["madvise EFAULT", "end of the file", { advice: "MADV_POPULATE_WRITE" }],
  ["madvise EFAULT", "page that cannot be read", { advice: "MADV_POPULATE_WRITE" }],
  ["fallocate ENOMEM", "memory"],
  ["write EAGAIN", "full counter"],
  ["pthread_create EAGAIN", "limit of threads"],
  ["pthread_create EAGAIN", "limit of the system"],
  ["pthread_create EAGAIN", "memory"],
  ["pthread_create ENOMEM", "memory"],
  ["epoll_ctl ENOSPC", "watches"],
  ["KVM_CREATE_VM EBUSY", "another hypervisor"],
  ["KVM_CREATE_VM EBUSY", "shutdown"],
  ["KVM_GET_CPUID2 E2BIG", "too little room", { nent: 1 }],
  ["KVM_SET_TSS_ADDR EEXIST", "pages of KVM's own", 0xfee0_0000],
  ["KVM_CREATE_DEVICE ENODEV", "unknown type", { type: 9 }],
  ["KVM_CREATE_DEVICE EBUSY", "second VFIO device", { type: 4 }],
  ["KVM_SET_DEVICE_ATTR ENXIO", "unknown attribute", { group: 1 }],
  ["KVM_SET_DEVICE_ATTR EPERM dev", "no such call"],
  ["KVM_ENABLE_CAP EINVAL vm", "boot vCPU left out", cap("KVM_CAP_MAX_VCPU_ID", 4n)],
  ["KVM_ENABLE_CAP EINVAL vm", "entries that KVM keeps", cap("KVM_CAP_DIRTY_LOG_RING", 4096n)],
  ["KVM_ENABLE_CAP EPERM vm", "no CAP_SYS_BOOT", cap("KVM_CAP_VM_DISABLE_NX_HUGE_PAGES", 0n)],
  ["KVM_ENABLE_CAP E2BIG vm", "large ring", cap("KVM_CAP_DIRTY_LOG_RING", bit(21))],
  ["KVM_SET_USER_MEMORY_REGION EEXIST", "the APIC's page", region({ guestPhysAddr: 0xfee0_0000n }), ids(0)],
  ["KVM_SET_USER_MEMORY_REGION EEXIST", "the identity map", region({ guestPhysAddr: 0x1000n }), vm({ identityMapAddr: () => 0x1000n, vcpuIds: () => [0] })],
  ["KVM_SET_USER_MEMORY_REGION EEXIST", "the TSS", region({ guestPhysAddr: 0x1000n }), vm({ tssAddr: () => 0x1000n })],
  ["KVM_SET_USER_MEMORY_REGION EINVAL", "other memory", region({ slot: 1 }), vm(slotAt(0n))],
  ["KVM_SET_USER_MEMORY_REGION2 EINVAL", "guest_memfd of another VM", region({ flags: 4 })],
  ["KVM_SET_USER_MEMORY_REGION2 EINVAL", "short guest_memfd", region({ flags: 4 })],
  ["KVM_SET_USER_MEMORY_REGION2 EINVAL", "guest_memfd in use", region({ flags: 4 })],
  ["KVM_SET_USER_MEMORY_REGION2 EBADF", "no guest_memfd"],
  ["KVM_PRE_FAULT_MEMORY EOPNOTSUPP", "shadow paging"],
  ["KVM_PRE_FAULT_MEMORY EOPNOTSUPP", "nested guest"],
  ["KVM_PRE_FAULT_MEMORY EOPNOTSUPP", "protected VM"],
  ["KVM_GET_DIRTY_LOG ENXIO", "rings instead"],
  ["KVM_RESET_DIRTY_RINGS EINVAL", "no rings"],
  ["KVM_CREATE_IRQCHIP EEXIST", "created before"],
  ["KVM_CREATE_PIT2 EEXIST", "created before"],
  ["KVM_SIGNAL_MSI EPERM", "no such LAPIC", { addressLo: 0 }],
  ["KVM_IRQFD EINVAL", "no eventfd", { gsi: 1 }],
  ["KVM_IRQFD EBUSY", "another user", {}, vm({ irqfdPlace: () => "nowhere" })],
  ["KVM_IOEVENTFD EEXIST", "same writes"],
  ["KVM_IOEVENTFD ENOENT", "not registered"],
  ["KVM_IOEVENTFD ENOSPC", "full bus"],
  ["KVM_MEMORY_ENCRYPT_OP ENOTTY vm", "KVM without encryption"],
  ["KVM_MEMORY_ENCRYPT_OP ENOTTY vm", "VM without encryption"],
  ["KVM_RUN EAGAIN", "not started"],
  ["KVM_RUN EFAULT", "no host page"],
  ["KVM_RUN EFAULT", "read-only host page"],
  ["KVM_RUN EHWPOISON", "broken page"],
  ["KVM_SET_CPUID2 E2BIG", "too many entries", { nent: 257 }],
  ["KVM_SET_CPUID2 EPERM", "AMX without permission", { entries: [{ function: 0xd, flags: 1, eax: 0x4_0000 }] }],
  ["KVM_SET_SREGS EINVAL", "EFER", { efer: bit(11) }, vcpuWith([], ["nx"])],
  ["KVM_SET_SREGS EINVAL", "CR4 without a table", { cr4: bit(12) }, vcpuWithoutTable(["la57"])],
  ["KVM_SET_SREGS EINVAL", "EFER.LMSLE", { efer: bit(13) }],
  ["KVM_SET_MSRS E2BIG", "too many MSRs", { nmsrs: 256 }],
  ["KVM_SET_XSAVE EINVAL", "mxcsr of AMD", mxcsr(0x2_0000)],
  ["KVM_SET_VCPU_EVENTS EINVAL", "SMI after INIT", { flags: 8, smi: { smm: 1 } }],
  ["KVM_SET_MP_STATE EINVAL", "INIT and SIPI blocked", { mpState: 2 }],
  ["KVM_SET_GUEST_DEBUG EBUSY", "pending exception"],
  ["KVM_INTERRUPT ENXIO", "PIC in the kernel"],
  ["KVM_INTERRUPT EEXIST", "one is pending"],
  ["KVM_X86_SET_MCE EINVAL", "no such bank", { bank: 40 }],
  ["KVM_X86_SET_MCE EINVAL", "error refused", { bank: 40 }],
  ["KVM_KVMCLOCK_CTRL EINVAL", "no kvmclock"],
  ["KVM_GET_NESTED_STATE E2BIG", "too little room"],
  ["any call EBADF", "bad descriptor in the struct", {}, NONE, [null]],
  ["any call EMFILE", "descriptors of the process"],
  ["any call ENFILE", "descriptors of the system"],
  ["any call ENOMEM", "memory"],
  ["any call ENOMEM", "limit of the process"],
];

/**
 * Rules that other test files cover, because only the kernel can write their argument, or because the argument is the
 * ioctl itself.
 */
const ELSEWHERE = [
  "KVM_GET_MSR_INDEX_LIST E2BIG too little room",
  "mmap ENOMEM pool of huge pages",
  "any call ENOTTY missing capability",
  "any call ENOTTY unknown ioctl",
  "any call EINVAL missing capability",
  "any call EFAULT count past the entries",
];

const ruleOf = (call: string, cause: string) => {
  const [name, errno] = call.startsWith("any call")
    ? ["any call", call.slice("any call ".length)]
    : call.split(" ");
  const found = everyRule().find(
    (rule) => rule[0] === name && rule[1] === errno && rule[2] === cause,
  );
  if (found === undefined) throw new Error(`no rule ${call}: ${cause}`);
  return found[3];
};

const judge = (call: string, cause: string, given: Given): Verdict | undefined =>
  ruleOf(call, cause)(refusalOf(call.replace("any call", "KVM_RUN"), ...given));

const PROVABLE = PROVEN.filter(([call, cause]) => !ELSEWHERE.includes(`${call} ${cause}`));

describe("a rule of lib/explain for a refused call,", () => {
  test.each(PROVABLE)('%s: proves the cause "%s"', (call, cause, holds) => {
    expect(judge(call, cause, holds)?.is).toBe("proven");
    expect(judge(call, cause, holds)?.source).toBeUndefined();
  });

  test.each(PROVABLE)(
    '%s: does not assert the cause "%s" when the call was refused for another cause',
    (call, cause, _, other) => {
      expect(judge(call, cause, other)?.is).not.toBe("proven");
    },
  );

  test.each(OPEN.map(([call, cause, ...given]) => [call, cause, given] as const))(
    '%s: states the cause "%s" as proven only if a single place in the kernel returns the errno',
    (call, cause, given) => {
      const verdict = judge(call, cause, given);
      expect(verdict?.is).toBe(verdict?.source === undefined ? "possible" : "proven");
    },
  );
});

/** The rules of `open` read this machine's modules; open.test.ts tests their sentences. */
const isWritten = ([call]: readonly [string, ...unknown[]]): boolean => !call.startsWith("open ");
const WRITTEN = [
  ...PROVABLE.map(([call, cause, holds]) => [call, cause, holds] as const),
  ...OPEN.map(([call, cause, ...given]) => [call, cause, given] as const),
].filter(isWritten);

describe("a cause that lib/explain states for a refused call,", () => {
  const written: Readonly<Record<string, string | undefined>> = sentences;
  const named: Readonly<Record<string, string | undefined>> = sources;

  test.each(WRITTEN)("%s: is a complete sentence: %s", (call, cause, given) => {
    expect(judge(call, cause, given)?.text).toBe(written[`${call}: ${cause}`]);
  });

  test.each(WRITTEN)(
    "%s: names the place in the kernel if no other place returns the errno: %s",
    (call, cause, given) => {
      expect(judge(call, cause, given)?.source).toBe(named[`${call}: ${cause}`]);
    },
  );

  test("has exactly one sentence in the list, in the order of the rules", () => {
    const keys = WRITTEN.map(([call, cause]) => `${call}: ${cause}`);
    expect(Object.keys(sentences)).toEqual(keys);
  });
});

/**
 * Every caller of open has the path, and every caller that requests a permission has the component, so these arguments
 * always exist.
 */
const isWhole = ([call]: readonly [string, ...unknown[]]): boolean =>
  !call.startsWith("open ") && !call.startsWith("arch_prctl ");

/** Returns evidence that calls `ask` for every query. */
const answering = (ask: () => never): Evidence => ({
  kvm: { check: ask, supportedCpuid: ask, featureMsr: ask, mceCap: ask },
  vm: {
    isForeign: ask,
    isDead: ask,
    check: ask,
    slots: ask,
    vcpuIds: ask,
    irqchip: ask,
    hasPit: ask,
    enabled: ask,
    tssAddr: ask,
    identityMapAddr: ask,
    irqfdPlace: ask,
  },
  vcpu: {
    id: 0,
    hasRun: ask,
    hasEntered: ask,
    cpuid: ask,
    sregs: ask,
    hasLapic: ask,
    msr: ask,
    run: ask,
  },
  descriptors: ask,
});

// If one rule threw, explain() would not judge the later rules and would return no reason.
describe("a rule of lib/explain with incomplete evidence,", () => {
  const silent = answering(() => undefined as never);
  const failing = answering(() => {
    throw new Error("the evidence cannot be read");
  });
  const ROWS = [
    ...PROVABLE.map(([call, cause, ...given]) => [call, cause, given] as const),
    ...OPEN.map(([call, cause, ...given]) => [call, cause, [given]] as const),
  ].flatMap(([call, cause, given]) => given.map((one) => [call, cause, one] as const));
  const ASKED = PROVABLE.filter(([, , [, evidence = NONE]]) => evidence !== NONE);

  test.each(ROWS)(
    "%s: states the same sentence if the evidence cannot be read: %s",
    (call, cause, given) => {
      const [sent, , links] = given;
      const said = judge(call, cause, [sent, NONE, links]);
      expect(judge(call, cause, [sent, silent, links])).toEqual(said);
      expect(judge(call, cause, [sent, failing, links])).toEqual(said);
    },
  );

  test.each(ASKED)("%s: proves nothing without evidence: %s", (call, cause, given) => {
    const verdict = judge(call, cause, [given[0], NONE, given[2]]);
    expect(verdict?.source ?? verdict?.is).not.toBe("proven");
  });

  test.each(ROWS.filter(isWhole))(
    "%s: states no sentence about an argument that is not known: %s",
    (call, cause, [, ...more]) => {
      const nothing = [{}, new Uint8Array(0), new Uint8Array(5).fill(255)];
      const said = nothing.map((sent) => judge(call, cause, [sent, ...more])?.text ?? "");
      expect(said.join("\n")).not.toMatch(/undefined|NaN| {2}/);
    },
  );

  test.each(WRITTEN.filter(isWhole))(
    "%s: states the expected sentence, or none, for an empty argument: %s",
    (call, cause) => {
      const key = `${call}: ${cause}`;
      const other: Readonly<Record<string, string | undefined>> = unsent;
      const same: Readonly<Record<string, string | undefined>> = sentences;
      const written = always.includes(key) ? same[key] : other[key];
      expect(judge(call, cause, [{}, NONE])?.text).toBe(written);
    },
  );
});

test("every rule of lib/explain is in the tables of this test", () => {
  const named = [
    ...PROVEN.map(([call, cause]) => ruleOf(call, cause)),
    ...OPEN.map(([call, cause]) => ruleOf(call, cause)),
  ];
  const rest = everyRule().filter(([, , , rule]) => !named.includes(rule));
  const names = rest.map(([call, errno, cause]) => `${call} ${errno} ${cause}`);
  expect(names.filter((name) => !ELSEWHERE.includes(name))).toEqual([]);
});
