/** `node-kvm info`: describes this host's KVM. */
import { KVM_CAPABILITIES } from "../abi/generated/names.ts";
import { AddonError, KvmError } from "../errors.ts";
import { type Fingerprint, fingerprint } from "../explore/fingerprint.ts";
import { kernelRelease, vendorModule } from "../kvm/host.ts";
import { defaultDevice, Kvm } from "../kvm/kvm.ts";
import { STATUS } from "./exit-status.ts";
import { fingerprintLines } from "./fingerprint-lines.ts";

interface Info {
  readonly kernel: string;
  readonly vendor: string;
  readonly device: string;
  /** The reason why the device cannot be used; absent if it can be used. */
  readonly problem?: string;
  readonly apiVersion?: number;
  /** The fingerprint of the kernel's CPUID code, or the reason why it cannot be decided. */
  readonly lifecycle?: Fingerprint | { readonly problem: string };
  /** Every capability by name, with the result of KVM_CHECK_EXTENSION. */
  readonly capabilities?: Readonly<Record<string, number>>;
}

/** Prints the description; returns the exit status, which is 1 if KVM or the addon cannot be used. */
export function info(json: boolean): number {
  const known = gather();
  process.stdout.write(json ? `${JSON.stringify(known, null, 2)}\n` : print(known));
  return known.problem === undefined ? STATUS.ok : STATUS.finding;
}

function gather(): Info {
  const known = {
    kernel: kernelRelease(),
    vendor: vendorModule() ?? "none",
    device: defaultDevice(),
  };
  try {
    using kvm = Kvm.open(known.device);
    const capabilities: Record<string, number> = {};
    for (const [name, number] of Object.entries(KVM_CAPABILITIES)) {
      capabilities[name] = kvm.checkExtension(number);
    }
    const apiVersion = kvm.getApiVersion();
    return { ...known, apiVersion, lifecycle: lifecycleOf(kvm), capabilities };
  } catch (error) {
    if (!(error instanceof KvmError || error instanceof AddonError)) throw error;
    return { ...known, problem: error.message };
  }
}

/** Returns the fingerprint, or the reason if KVM creates no VM; the rest is printed in both cases. */
function lifecycleOf(kvm: Kvm): Exclude<Info["lifecycle"], undefined> {
  try {
    return fingerprint(kvm);
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    return { problem: error.message };
  }
}

function print(known: Info): string {
  const lines = [
    `kernel         ${known.kernel}`,
    `vendor module  ${known.vendor}`,
    `device         ${known.device}`,
  ];
  if (known.problem !== undefined) lines.push(`problem        ${known.problem}`);
  if (known.apiVersion !== undefined) lines.push(`API version    ${known.apiVersion}`);
  const { lifecycle } = known;
  if (lifecycle !== undefined) {
    const isDecided = "rows" in lifecycle;
    lines.push("", ...(isDecided ? fingerprintLines(lifecycle) : [undecided(lifecycle.problem)]));
  }
  const all = Object.entries(known.capabilities ?? {});
  const there = all.filter(([, value]) => value !== 0);
  const missing = all.filter(([, value]) => value === 0);
  if (all.length > 0) {
    lines.push("", `${there.length} of ${all.length} capabilities`);
    for (const [name, value] of there) lines.push(`  ${name.padEnd(42)} ${value}`);
    lines.push(
      "",
      `${missing.length} are missing on this host (of another architecture, of a newer kernel, or disabled)`,
    );
    for (const [name] of missing) lines.push(`  ${name}`);
  }
  return `${lines.join("\n")}\n`;
}

const undecided = (reason: string): string => `CPUID code: undecided, because ${reason}`;
