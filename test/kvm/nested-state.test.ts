/**
 * Claims about the CPUID table of a vCPU that executes a nested guest (L2) and has not run: KVM_SET_NESTED_STATE alone
 * has put the vCPU there.
 */
import { vendorModule } from "node-kvm";
import type { CpuidTable } from "node-kvm/cpuid";
import {
  type Configured,
  claim,
  enterNestedGuest,
  expect,
  type Kit,
  leaveNestedGuest,
} from "node-kvm/test";

const another = (table: CpuidTable): CpuidTable => table.append({ function: 0x5000_0000 });

/** Configures a vCPU that is in a nested guest and has not run. */
function nested(kit: Kit): Configured {
  kit.requireCapability("KVM_CAP_NESTED_STATE");
  kit.require(vendorModule() === "kvm_amd", "the nested state is that of AMD's SVM");
  kit.requireVcpuHas("svm");
  const configured = kit.configured();
  enterNestedGuest(configured.vcpu);
  return configured;
}

claim(
  "nested-change",
  "a vCPU in a nested guest refuses another table, although it has not run",
  { number: 74 },
  (kit) => {
    const { vcpu, stored } = nested(kit);
    expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
  },
);

claim(
  "nested-resend",
  "a vCPU in a nested guest accepts its own table once more",
  { number: 74 },
  (kit) => {
    const { vcpu, stored } = nested(kit);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "nested-left",
  "a vCPU that has left its nested guest without a run accepts another table",
  { number: 74 },
  (kit) => {
    const { vcpu, stored } = nested(kit);
    leaveNestedGuest(vcpu);
    expect(() => vcpu.setCpuid2(another(stored))).toBeAccepted();
  },
);
