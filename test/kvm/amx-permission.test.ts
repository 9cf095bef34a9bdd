/**
 * AMX permission. It belongs to the process and is decided by its first vCPU, so these claims need
 * a process of their own, which vitest's forks give each file; they run in this order.
 */

import { readFileSync } from "node:fs";
import { Kvm } from "node-kvm";
import { expect } from "vitest";
import { claim } from "../helpers/claim.ts";
import { type Kit, Unmet } from "../helpers/kit.ts";

const XTILE_DATA = 18;
const XTILE_MASK = (1 << 17) | (1 << XTILE_DATA);

function requireAmx(): void {
  if (!/\bamx_tile\b/.test(readFileSync("/proc/cpuinfo", "utf8"))) {
    throw new Unmet("this CPU has no AMX");
  }
}

const withTiles = (kit: Kit) => {
  const table = kit.supported;
  const leaf = table.find(0xd, 0) ?? { function: 0xd, flags: 1, eax: 7 };
  return table.withEntry({ ...leaf, eax: (leaf.eax | XTILE_MASK) >>> 0 });
};

claim(
  22,
  "xtile-perm",
  "with permission asked before the first vCPU, AMX tile data is taken",
  (kit) => {
    requireAmx();
    expect(() => Kvm.reqXcompGuestPerm(XTILE_DATA)).toBeAccepted();
    const vcpu = kit.fresh();
    expect(() => vcpu.setCpuid2(withTiles(kit))).toBeAccepted();
  },
);

claim(
  22,
  "xtile-late",
  "after the first vCPU, permission for another component is too late",
  (kit) => {
    requireAmx();
    kit.fresh();
    expect(() => Kvm.reqXcompGuestPerm(XTILE_DATA)).toFailWith("EBUSY");
  },
);
