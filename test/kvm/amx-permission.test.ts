/**
 * The claim about AMX permission that is requested in time. The permission applies to the process, and vitest runs each
 * file in a separate process. amx-late.test.ts tests a late request.
 */
import { Kvm } from "node-kvm";
import { claim, expect } from "node-kvm/test";

const XTILE_DATA = 18;
const XTILE_MASK = (1 << 17) | (1 << XTILE_DATA);

claim(
  "xtile-perm",
  "KVM_SET_CPUID2 accepts AMX tile data if permission was requested before the first vCPU",
  { number: 22 },
  (kit) => {
    kit.requireCpuFlag("amx_tile");
    const table = kit.supported;
    const leaf = table.find(0xd, 0) ?? { function: 0xd, flags: 1, eax: 7 };
    const withTiles = table.withEntry({ ...leaf, eax: (leaf.eax | XTILE_MASK) >>> 0 });
    expect(() => Kvm.reqXcompGuestPerm(XTILE_DATA)).toBeAccepted();
    const vcpu = kit.fresh();
    expect(() => vcpu.setCpuid2(withTiles)).toBeAccepted();
  },
);
