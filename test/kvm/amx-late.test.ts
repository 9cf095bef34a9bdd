/**
 * The claim about AMX permission that is requested too late. The first vCPU of a process freezes the permissions of the
 * process; a permission that was granted before may be requested again. So this claim and the claim of
 * amx-permission.test.ts need separate processes.
 */
import { Kvm } from "node-kvm";
import { claim, expect } from "node-kvm/test";

const XTILE_DATA = 18;

claim(
  "xtile-late",
  "permission for AMX tile data that is requested after the first vCPU has no effect",
  { number: 22 },
  (kit) => {
    kit.requireCpuFlag("amx_tile");
    kit.fresh();
    expect(() => Kvm.reqXcompGuestPerm(XTILE_DATA)).toFailWith("EBUSY");
  },
);
