/**
 * Calls fingerprint() twice on one device, and prints one line of JSON: the two results, the open descriptors before the
 * first call and after the second, and whether the device still explains its errors. fingerprint.test.ts runs this
 * program in the lab.
 */
import { readdirSync, readlinkSync } from "node:fs";
import { Kvm } from "node-kvm";
import { fingerprint } from "node-kvm/explore";

/** Lists the descriptors of KVM; the other descriptors belong to Node.js. */
function descriptors() {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return /^(\/dev\/|anon_inode:)kvm/.test(target) ? [target] : [];
    } catch {
      return [];
    }
  });
}

const kvm = Kvm.open();
const before = descriptors();
const results = [fingerprint(kvm), fingerprint(kvm)];
const after = descriptors();
const { explain } = kvm;
kvm.close();
process.stdout.write(`${JSON.stringify({ results, before, after, explain })}\n`);
