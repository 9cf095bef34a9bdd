/**
 * The model of the life cycle of a vCPU's CPUID table: it predicts KVM's answer to each operation. rules.ts has the
 * rules, kernel-rows.ts the kernels' differences, and not-modelled.ts the limits of the model.
 */
import type { CpuidEntry2, CpuidRegister } from "../../cpuid/entry.ts";
import { baseOf } from "../../cpuid/field.ts";
import { query } from "../../cpuid/query.ts";
import { CR4_BITS } from "../control-registers.ts";
import { physicalBitsIn } from "../features.ts";
import { WIDTH_LEAF, widthIn, XTILE_DATA } from "../set-cpuid2.ts";
import { componentsIn, xcr0FindingWithin } from "../xsave.ts";
import { hasFeature, positionOf } from "./lookup.ts";
import {
  type Cr4BitName,
  exit,
  type LifecycleAnswer,
  type LifecycleOperation,
  OK,
  result,
} from "./operation.ts";
import { LIFECYCLE_RULES, type LifecycleRules, type RuleChanges } from "./rules.ts";
import type { LifecycleHost, LifecycleVcpu, LifecycleVm } from "./state.ts";
import { updated } from "./updates.ts";

/** The next state of a VM, and KVM's answer to the operation that leads there. */
export interface LifecycleStep {
  readonly vm: LifecycleVm;
  readonly answer: LifecycleAnswer;
}

/** The features of the CR4 bits of the model. */
const CR4_FEATURES = Object.fromEntries(
  Object.values(CR4_BITS).map(([name, ...features]) => [name.toLowerCase(), features] as const),
);

/** The address of the local APIC after reset (SDM volume 3, 11.4.4). */
const APIC_BASE = 0xfee0_0000n;
/** The components x87 and SSE, whose change does not change the sizes in leaf 0xD. */
const LEGACY_COMPONENTS = 3n;

/** The next state of one vCPU, and the answer. */
type VcpuStep = readonly [vcpu: LifecycleVcpu, answer: LifecycleAnswer];

const EINVAL = result("EINVAL");
const FAULT = exit("#GP");

/** Predicts KVM's answers under one set of rules. An object has no state; {@link step} returns the next state. */
export class LifecycleModel {
  readonly rules: LifecycleRules;
  readonly host: LifecycleHost;

  /**
   * Makes the model of a kernel.
   *
   * @param changes - the rules that differ from Linux 7.2, in their order; a later change replaces an earlier one.
   */
  constructor(host: LifecycleHost, changes: Iterable<RuleChanges> = []) {
    this.host = host;
    this.rules = Object.assign({}, LIFECYCLE_RULES, ...changes) as LifecycleRules;
  }

  /** Returns the next state of the VM, and the answer of KVM to the operation. */
  step(vm: LifecycleVm, operation: LifecycleOperation): LifecycleStep {
    if (operation.call === "disableHltExits") return this.#disableHltExits(vm);
    if (operation.call === "disableMwaitQuirk") {
      const { lateQuirk } = this.rules;
      return {
        vm: { ...vm, mwaitQuirkOff: vm.mwaitQuirkOff || lateQuirk === "applies" },
        answer: OK,
      };
    }
    const before = vm.vcpus[operation.vcpu];
    if (before === undefined) throw new RangeError(`the model has no vCPU ${operation.vcpu}`);
    const [after, answer] = this.#onVcpu(vm, before, operation);
    const vcpus = vm.vcpus.with(operation.vcpu, after);
    const isFirstEntry = after.hasEntered && !before.hasEntered;
    const all = isFirstEntry && this.rules.freezesAll;
    return {
      vm: { ...vm, vcpus: all ? vcpus.map((v) => ({ ...v, hasEntered: true })) : vcpus },
      answer,
    };
  }

  #disableHltExits(vm: LifecycleVm): LifecycleStep {
    return this.rules.lateDisableExits === "accepted"
      ? { vm: { ...vm, hltExitsOff: true }, answer: OK }
      : { vm, answer: EINVAL };
  }

  #onVcpu(
    vm: LifecycleVm,
    vcpu: LifecycleVcpu,
    operation: Extract<LifecycleOperation, { vcpu: number }>,
  ): VcpuStep {
    switch (operation.call) {
      case "setCpuid2":
        return this.#set(vm, vcpu, operation.entries);
      case "setCpuid":
        return this.#set(
          vm,
          vcpu,
          operation.entries.map((entry) => this.#asV1(entry)),
        );
      case "getCpuid2":
        return this.#get(vm, vcpu, operation.room);
      case "run":
        return this.#run(vcpu, operation.how);
      case "guestCpuid":
        return this.#guestCpuid(vm, vcpu, operation.function, operation.index);
      case "cr4":
        return this.#cr4(vm, vcpu, operation.by, operation.bit);
      case "xcr0":
        return this.#xcr0(vm, vcpu, operation.value);
      case "apicBase":
        return this.#apicBase(vm, vcpu, operation.by);
      case "miscEnable":
        return this.#miscEnable(vm, vcpu, operation.by);
      case "xss":
        return this.#xss(vm, vcpu, operation.value);
      default:
        return operation satisfies never;
    }
  }

  // Tables

  #asV1(entry: CpuidEntry2): CpuidEntry2 {
    const index = this.rules.v1Stores === "zeros" ? 0 : entry.index;
    return { ...entry, index, flags: 0, padding: [0, 0, 0] };
  }

  #set(vm: LifecycleVm, before: LifecycleVcpu, entries: readonly CpuidEntry2[]): VcpuStep {
    const { rules } = this;
    const isFrozen = before.hasEntered && rules.frozen === "compares";
    const isTooLong = entries.length > rules.mostEntries;
    if (isTooLong && (rules.countCheck === "always" || !isFrozen)) return [before, result("E2BIG")];
    // Linux 7.2 applies a deferred update before it compares or replaces the table.
    const vcpu = rules.updates === "deferred" ? this.#flush(vm, before) : before;
    if (isFrozen) return this.#compare(vm, vcpu, entries);
    const refusal = this.#check(entries);
    if (refusal !== undefined) {
      return [rules.refused === "keeps" ? vcpu : { ...vcpu, stored: [] }, refusal];
    }
    const stored = rules.updatesOnSet ? this.#updated(vm, vcpu, entries, true) : entries;
    const next: LifecycleVcpu = {
      ...vcpu,
      stored,
      wasSet: true,
      isDirty: false,
      pvBase: baseOf(stored, "kvm"),
      xcr0: rules.shrinkingSet === "resets-xcr0" ? 1n : vcpu.xcr0,
    };
    return [rules.shrinkingSet === "resets-cr4" ? this.#withAllowedCr4(next) : next, OK];
  }

  /** A SET on a vCPU that has run. */
  #compare(vm: LifecycleVm, vcpu: LifecycleVcpu, entries: readonly CpuidEntry2[]): VcpuStep {
    const { rules } = this;
    const refusal = rules.frozenTable === "checked" ? this.#check(entries) : undefined;
    if (refusal !== undefined) return [vcpu, refusal];
    const incoming = rules.updatesOnSet ? this.#updated(vm, vcpu, entries, true) : entries;
    // Under `lost`, the update of the incoming table also clears the mark of the stored one.
    const next = { ...vcpu, isDirty: false };
    if (!this.#isEqual(incoming, vcpu.stored)) return [next, EINVAL];
    return [rules.accepted === "new" ? { ...next, stored: incoming } : next, OK];
  }

  #check(entries: readonly CpuidEntry2[]): LifecycleAnswer | undefined {
    const { rules } = this;
    for (const check of rules.checks) {
      if (check === "width") {
        const index = rules.widthLookup === "index-0" ? 0 : undefined;
        const width = widthIn(entries[positionOf(rules, entries, WIDTH_LEAF, index)]);
        if (!rules.widths.includes(width)) return EINVAL;
      } else if (rules.hasDynamicComponents) {
        const components = componentsIn(entries[positionOf(rules, entries, 0xd, 0)]) ?? 0n;
        if ((components & (1n << BigInt(XTILE_DATA))) !== 0n) return result("EPERM");
      }
    }
    return undefined;
  }

  #isEqual(a: readonly CpuidEntry2[], b: readonly CpuidEntry2[]): boolean {
    const { comparison } = this.rules;
    if (a.length !== b.length && comparison !== "common-prefix") return false;
    if (comparison !== "sorted") {
      return a.every((entry, i) => {
        const other = b[i];
        return other === undefined || entry === other || this.#keyOf(entry) === this.#keyOf(other);
      });
    }
    const [x, y] = [a, b].map((entries) =>
      entries
        .map((entry) => this.#keyOf(entry))
        .sort()
        .join(";"),
    );
    return x === y;
  }

  #keyOf(entry: CpuidEntry2): string {
    return this.rules.compared.map((member) => String(entry[member])).join();
  }

  #get(vm: LifecycleVm, before: LifecycleVcpu, room: number): VcpuStep {
    const { rules } = this;
    const count = before.stored.length;
    if (room < count && rules.shortGet === "refused") {
      return [rules.shortGetFlushes ? this.#flush(vm, before) : before, result("E2BIG")];
    }
    const vcpu = rules.getFlushes ? this.#flush(vm, before) : before;
    const nent = rules.getReturns === "count" ? count : room;
    return [vcpu, { kind: "table", nent, entries: vcpu.stored }];
  }

  // Updates of KVM's own bits

  #updated(
    vm: LifecycleVm,
    vcpu: LifecycleVcpu,
    entries: readonly CpuidEntry2[],
    isSet: boolean,
  ): readonly CpuidEntry2[] {
    const { rules, host } = this;
    return updated({ rules, host, vm, vcpu, isSet }, entries);
  }

  #flush(vm: LifecycleVm, vcpu: LifecycleVcpu): LifecycleVcpu {
    if (!vcpu.isDirty) return vcpu;
    return { ...vcpu, isDirty: false, stored: this.#updated(vm, vcpu, vcpu.stored, false) };
  }

  #touch(
    vm: LifecycleVm,
    vcpu: LifecycleVcpu,
    trigger: LifecycleRules["triggers"][number],
  ): LifecycleVcpu {
    if (!this.rules.triggers.includes(trigger)) return vcpu;
    const dirty = { ...vcpu, isDirty: true };
    return this.rules.updates === "eager" ? this.#flush(vm, dirty) : dirty;
  }

  // The guest

  #entered(vcpu: LifecycleVcpu, how: LifecycleRules["freezing"][number]): LifecycleVcpu {
    const { freezing, emptyFreezes } = this.rules;
    const isFreezing = freezing.includes(how) && (emptyFreezes || vcpu.wasSet);
    return isFreezing ? { ...vcpu, hasEntered: true } : vcpu;
  }

  #run(vcpu: LifecycleVcpu, how: Extract<LifecycleOperation, { call: "run" }>["how"]): VcpuStep {
    const exits = {
      io: exit("io"),
      internalError: exit("internalError"),
      // KVM returns a pending triple fault without an entry.
      tripleFault: exit("shutdown"),
      immediateExit: exit("EINTR"),
    };
    return [this.#entered(vcpu, how), exits[how]];
  }

  #guestCpuid(vm: LifecycleVm, before: LifecycleVcpu, fn: number, index: number): VcpuStep {
    const { rules } = this;
    const entered = this.#entered(before, "guest");
    const vcpu = rules.guestFlushes ? this.#flush(vm, entered) : entered;
    const { eax, ebx, ecx, edx } = this.#answerOf(vcpu.stored, fn, index);
    return [vcpu, { kind: "registers", registers: [eax, ebx, ecx, edx] }];
  }

  /** Returns the registers after the guest's CPUID; a wrong model only has the lookup, without KVM's other rules. */
  #answerOf(
    stored: readonly CpuidEntry2[],
    fn: number,
    index: number,
  ): Pick<CpuidEntry2, CpuidRegister> {
    const { rules } = this;
    const isKvm = rules.guestLookup === "ecx" && rules.unflagged === "any-index";
    if (isKvm && rules.match === "first") return query(stored, fn, index);
    const wanted = rules.guestLookup === "ecx" ? index : undefined;
    const {
      eax = 0,
      ebx = 0,
      ecx = 0,
      edx = 0,
    } = stored[positionOf(rules, stored, fn, wanted)] ?? {};
    return { eax, ebx, ecx, edx };
  }

  // CR4, XCR0 and MSRs

  #allowsCr4(vcpu: LifecycleVcpu, bit: Cr4BitName): boolean {
    const { rules, host } = this;
    if (!rules.cr4Checks.includes(bit)) return true;
    const features = CR4_FEATURES[bit] ?? [];
    if (!features.some((name) => host.supported.has(name))) return false;
    if (!vcpu.wasSet && rules.freshCr4 === "host") return true;
    return features.some((name) => hasFeature(rules, vcpu.stored, name));
  }

  #isCr4Valid(vcpu: LifecycleVcpu): boolean {
    return (["osxsave", "pke"] as const).every((bit) => !vcpu[bit] || this.#allowsCr4(vcpu, bit));
  }

  #withAllowedCr4(vcpu: LifecycleVcpu): LifecycleVcpu {
    const osxsave = vcpu.osxsave && this.#allowsCr4(vcpu, "osxsave");
    return { ...vcpu, osxsave, pke: vcpu.pke && this.#allowsCr4(vcpu, "pke") };
  }

  #isApicBaseValid(vcpu: LifecycleVcpu): boolean {
    if (this.rules.apicBaseWidth === "unchecked") return true;
    return APIC_BASE >> BigInt(physicalBitsIn(vcpu.stored)) === 0n;
  }

  #cr4(
    vm: LifecycleVm,
    before: LifecycleVcpu,
    by: "sregs" | "sregs2" | "syncRegs" | "guest",
    bit: Cr4BitName,
  ): VcpuStep {
    const vcpu = by === "guest" ? this.#entered(before, "guest") : before;
    const changed = { ...vcpu, [bit]: !vcpu[bit] };
    const isBaseChecked =
      by !== "guest" && this.rules.sregsChecks === "all" && this.rules.sameApicBase === "checked";
    const isBaseValid = !isBaseChecked || this.#isApicBaseValid(vcpu);
    if (!(this.#isCr4Valid(changed) && isBaseValid)) {
      const kept = this.rules.refusedCr4 === "changes" ? changed : vcpu;
      return [kept, answerBy(by, false)];
    }
    return [this.#touch(vm, changed, bit), answerBy(by, true)];
  }

  #xcr0(vm: LifecycleVm, vcpu: LifecycleVcpu, value: bigint): VcpuStep {
    const { rules, host } = this;
    const own = componentsIn(vcpu.stored[positionOf(rules, vcpu.stored, 0xd, 0)]);
    if (own === undefined && rules.xcr0WithoutLeaf === "nothing") return [vcpu, EINVAL];
    const all = (1n << 64n) - 1n;
    const inTable = rules.xcr0Limits.includes("table") ? (own ?? 0n) : all;
    const allowed = rules.xcr0Limits.includes("host") ? inTable & host.xcr0 : inTable;
    if (xcr0FindingWithin(value, allowed) !== undefined) return [vcpu, EINVAL];
    const toggled = vcpu.xcr0 ^ value;
    const triggering = rules.xcr0Trigger === "any" ? toggled : toggled & ~LEGACY_COMPONENTS;
    const changed = { ...vcpu, xcr0: value };
    return [triggering === 0n ? changed : this.#touch(vm, changed, "xcr0"), OK];
  }

  #apicBase(
    vm: LifecycleVm,
    before: LifecycleVcpu,
    by: "sregs" | "sregs2" | "syncRegs" | "msrs" | "guest",
  ): VcpuStep {
    const vcpu = by === "guest" ? this.#entered(before, "guest") : before;
    const isSregs = by !== "msrs" && by !== "guest";
    const isCr4Valid = !isSregs || this.rules.sregsChecks === "changes" || this.#isCr4Valid(vcpu);
    const isValid = isCr4Valid && this.#isApicBaseValid(vcpu);
    const changed = { ...vcpu, isApicEnabled: !vcpu.isApicEnabled };
    const next = isValid ? this.#touch(vm, changed, "apicBase") : vcpu;
    return [next, answerBy(by, isValid)];
  }

  #miscEnable(vm: LifecycleVm, before: LifecycleVcpu, by: "msrs" | "guest"): VcpuStep {
    const { mwaitNeedsSse3 } = this.rules;
    const vcpu = by === "guest" ? this.#entered(before, "guest") : before;
    const isChecked =
      mwaitNeedsSse3 === "always" || (mwaitNeedsSse3 === "without-quirk" && vm.mwaitQuirkOff);
    if (isChecked && !hasFeature(this.rules, vcpu.stored, "pni"))
      return [vcpu, answerBy(by, false)];
    const changed = { ...vcpu, mwait: !vcpu.mwait };
    const next = vm.mwaitQuirkOff ? this.#touch(vm, changed, "miscEnable") : changed;
    return [next, answerBy(by, true)];
  }

  #xss(vm: LifecycleVm, vcpu: LifecycleVcpu, value: bigint): VcpuStep {
    const { rules, host } = this;
    const hasXsaves = hasFeature(rules, vcpu.stored, "xsaves");
    const isValid = (rules.xss === "any-table" || hasXsaves) && (value & ~host.xss) === 0n;
    if (!isValid) return [vcpu, answerBy("msrs", false)];
    const changed = { ...vcpu, xss: value };
    const isTrigger = rules.xssTrigger === "any-write" || value !== vcpu.xss;
    return [isTrigger ? this.#touch(vm, changed, "xss") : changed, answerBy("msrs", true)];
  }
}

/** The answer to a write by an ioctl or by the guest. */
function answerBy(
  by: "sregs" | "sregs2" | "syncRegs" | "msrs" | "guest",
  isValid: boolean,
): LifecycleAnswer {
  switch (by) {
    case "sregs":
    case "sregs2":
      return isValid ? OK : EINVAL;
    case "syncRegs":
      return exit(isValid ? "EINTR" : "EINVAL");
    case "msrs":
      return { kind: "written", count: isValid ? 1 : 0 };
    case "guest":
      return isValid ? exit("io") : FAULT;
    default:
      return by satisfies never;
  }
}
