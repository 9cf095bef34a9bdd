/**
 * AMX permission, asked for too late. The first vCPU of a process locks what it has; what it has been
 * granted before it may ask for again. So this needs a process that amx-permission.test.ts is not in.
 */
import { Kvm } from "node-kvm";
import { expect } from "vitest";
import { claim } from "../helpers/claim.ts";

const XTILE_DATA = 18;

claim(22, "xtile-late", "after the first vCPU, permission for AMX tile data is too late", (kit) => {
  kit.requireCpuFlag("amx_tile");
  kit.fresh();
  expect(() => Kvm.reqXcompGuestPerm(XTILE_DATA)).toFailWith("EBUSY");
});
