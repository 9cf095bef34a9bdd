/** Tests of /dev/kvm, VMs and their memory slots: each call is tested with success and with failure. Needs KVM. */
import { describe, expect } from "vitest";
import { KVM_CREATE_VCPU, KVM_GET_REGS } from "../../../lib/abi/generated/ioctls.ts";
import { StateError } from "../../../lib/errors.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { refusal, test } from "./on-device.ts";

describe("the /dev/kvm handle", () => {
  test("has API version 12", ({ kvm }) => {
    expect(kvm.getApiVersion()).toBe(12);
  });

  test("returns capabilities by name and by number, and 0 for an unknown capability", ({ kvm }) => {
    const [named, numbered] = ["KVM_CAP_NR_MEMSLOTS", 10] as const;
    expect(kvm.checkExtension(named)).toBeGreaterThan(0);
    expect(kvm.checkExtension(numbered)).toBe(kvm.checkExtension(named));
    expect(kvm.checkExtension(0x7fff_ffff)).toBe(0);
  });

  test("issues no ioctl if the name of a capability is unknown", ({ kvm }) => {
    const wrong = "KVM_CAP_NO_SUCH" as "KVM_CAP_XCRS";
    expect(() => kvm.checkExtension(wrong)).toThrow(
      new TypeError('unknown capability "KVM_CAP_NO_SUCH"'),
    );
  });

  test("returns the size of a vCPU's mapping, which is a multiple of the page size", ({ kvm }) => {
    const size = kvm.getVcpuMmapSize();
    expect([size > 0, size % 4096]).toEqual([true, 0]);
  });

  test("lists supported CPUID entries, including leaf 0", ({ kvm }) => {
    expect(kvm.getSupportedCpuid().map((entry) => entry.function)).toContain(0);
  });

  test("lists emulated CPUID entries", ({ kvm }) => {
    expect(kvm.getEmulatedCpuid()).toBeInstanceOf(Array);
  });

  test("lists Hyper-V CPUID entries, all above 0x40000000", ({ kvm, skip }) => {
    const has = kvm.checkExtension("KVM_CAP_SYS_HYPERV_CPUID") > 0;
    skip(!has, "this KVM has no KVM_CAP_SYS_HYPERV_CPUID");
    const leafs = kvm.getSupportedHvCpuid().map((entry) => entry.function);
    expect(leafs.filter((leaf) => leaf < 0x4000_0000 || leaf > 0x4000_00ff)).toEqual([]);
  });

  test("lists each MSR once", ({ kvm }) => {
    const msrs = kvm.getMsrIndexList();
    expect(new Set(msrs).size).toBe(msrs.length);
    expect(msrs.length).toBeGreaterThan(0);
  });

  test("reads every feature MSR that KVM lists, and stops at an unknown MSR", ({ kvm }) => {
    const features = kvm.getMsrFeatureIndexList();
    expect(kvm.getMsrs(features).map(({ index }) => index)).toEqual(features);
    expect(kvm.getMsrs([0xdead_beef, ...features])).toEqual([]);
  });

  test("rejects an unknown type of VM", ({ kvm }) => {
    expect(refusal(() => kvm.createVm(0x7fff_ffff))).toMatchObject({
      call: "KVM_CREATE_VM",
      code: "EINVAL",
      object: kvm.label,
      args: { type: 0x7fff_ffff },
    });
  });

  test("rejects an ioctl of a vCPU", ({ kvm }) => {
    const regs = new Uint8Array(144);
    expect(refusal(() => kvm.ioctl(KVM_GET_REGS, regs))).toMatchObject({ code: "EINVAL" });
  });

  test("rejects a permission request for an XSAVE component that is not dynamic", () => {
    expect(refusal(() => Kvm.reqXcompGuestPerm(2))).toMatchObject({
      call: "arch_prctl",
      object: "process",
      args: { component: 2 },
    });
  });
});

describe("a VM handle", () => {
  test("returns the capabilities of the VM, and 0 for an unknown capability", ({ vm }) => {
    expect(vm.checkExtension("KVM_CAP_NR_MEMSLOTS")).toBeGreaterThan(0);
    expect(vm.checkExtension(0x7fff_ffff)).toBe(0);
  });

  test("enables a capability, and rejects an unknown capability", ({ vm }) => {
    vm.enableCap({ cap: "KVM_CAP_EXCEPTION_PAYLOAD", args: [1n] });
    expect(refusal(() => vm.enableCap({ cap: 0x7fff_ffff }))).toMatchObject({
      call: "KVM_ENABLE_CAP",
      code: "EINVAL",
      object: "vm",
      args: { cap: 0x7fff_ffff },
    });
  });

  test("creates one vCPU for each id", ({ vm }) => {
    vm.createVcpu(1).close();
    expect(refusal(() => vm.createVcpu(1))).toMatchObject({
      call: "KVM_CREATE_VCPU",
      code: "EEXIST",
      object: "vm",
      args: { id: 1 },
    });
    expect(refusal(() => vm.createVcpu(0xffff_ffff)).code).toBe("EINVAL");
  });

  test("creates interrupt controllers only once", ({ vm }) => {
    vm.createIrqchip();
    expect(refusal(() => vm.createIrqchip())).toMatchObject({
      call: "KVM_CREATE_IRQCHIP",
      code: "EEXIST",
      object: "vm",
    });
  });

  test("rejects the creation of interrupt controllers after a vCPU was created", ({ vm, vcpu }) => {
    expect(vcpu.id).toBe(0);
    expect(refusal(() => vm.createIrqchip()).code).toBe("EINVAL");
  });

  test("raises and lowers an interrupt line if it has interrupt controllers", ({ vm }) => {
    expect(refusal(() => vm.irqLine(4, 1))).toMatchObject({
      call: "KVM_IRQ_LINE",
      code: "ENXIO",
      args: { irq: 4, level: 1 },
    });
    vm.createIrqchip();
    expect(() => vm.irqLine(4, 1)).not.toThrow();
    expect(() => vm.irqLine(4, 0)).not.toThrow();
  });

  test("accepts an address for KVM's own pages, on a host that needs these pages", ({ vm }) => {
    expect(() => vm.setTssAddr(0xfffb_d000)).not.toThrow();
    expect(() => vm.setIdentityMapAddr(0xfffb_c000n)).not.toThrow();
  });

  test("rejects an identity map address after a vCPU was created", ({ vm, vcpu }) => {
    expect(vcpu.id).toBe(0);
    expect(refusal(() => vm.setIdentityMapAddr(0xfffb_c000n))).toMatchObject({
      call: "KVM_SET_IDENTITY_MAP_ADDR",
      code: "EINVAL",
      args: { address: 0xfffb_c000n },
    });
  });

  test("rejects ioctl() for a request that creates a descriptor", ({ vm }) => {
    expect(() => vm.ioctl(KVM_CREATE_VCPU, 3)).toThrow(
      "KVM_CREATE_VCPU opens a descriptor: use the method that returns its handle",
    );
  });
});

describe("a memory slot", () => {
  test("that overlaps another slot is rejected", ({ vm, memory }) => {
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
    const overlap = { slot: 1, guestPhysAddr: 0x3000n, memory };
    expect(refusal(() => vm.setUserMemoryRegion(overlap))).toMatchObject({
      call: "KVM_SET_USER_MEMORY_REGION",
      code: "EEXIST",
      object: "vm",
      args: { slot: 1, flags: 0, guestPhysAddr: 0x3000n, memorySize: 0x4000n, memoryOffset: 0 },
    });
  });

  test.for([
    ["address", { guestPhysAddr: 0x800n }],
    ["size", { memorySize: 0x800n }],
    ["offset", { memorySize: 0x1000n, memoryOffset: 0x800 }],
  ] as const)(
    "with an %s that is not a multiple of the page size is rejected",
    ([, wrong], { vm, memory }) => {
      const region = { slot: 0, guestPhysAddr: 0n, memory, ...wrong };
      expect(refusal(() => vm.setUserMemoryRegion(region))).toMatchObject({
        call: "KVM_SET_USER_MEMORY_REGION",
        code: "EINVAL",
      });
    },
  );

  test("with a number above KVM's maximum is rejected", ({ vm, memory }) => {
    const far = { slot: 0xffff, guestPhysAddr: 0n, memory };
    expect(refusal(() => vm.setUserMemoryRegion(far)).code).toBe("EINVAL");
  });

  test("is rejected if it reaches beyond the end of the passed memory", ({ vm, memory }) => {
    const beyond = {
      slot: 0,
      guestPhysAddr: 0n,
      memory,
      memorySize: 0x4000n,
      memoryOffset: 0x1000,
    };
    expect(() => vm.setUserMemoryRegion(beyond)).toThrow(
      new RangeError("memorySize 16384 at offset 4096 is beyond the memory's 16384 bytes"),
    );
  });

  test("may be deleted, moved, and created again at another address", ({ vm, memory }) => {
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize: 0n });
    expect(() => vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: 0x1000n, memory })).not.toThrow();
  });

  test("that does not exist cannot be deleted", ({ vm }) => {
    const nothing = { slot: 5, guestPhysAddr: 0n, memorySize: 0n };
    expect(refusal(() => vm.setUserMemoryRegion(nothing)).code).toBe("EINVAL");
  });

  test("of closed memory is rejected", ({ vm, memory }) => {
    memory.close();
    expect(() => vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory })).toThrow(
      new StateError("ERR_CLOSED", "guest memory"),
    );
  });

  test("may map only a part of the passed memory", ({ vm, memory }) => {
    const half = { memorySize: 0x2000n, memoryOffset: 0x2000 };
    const region = { slot: 0, guestPhysAddr: 0n, memory, ...half };
    expect(() => vm.setUserMemoryRegion(region)).not.toThrow();
  });
});
