/** `node-kvm lab build-bochs`: builds the emulator for kvm_intel into the cache. */
import { buildBochs } from "../lab/bochs/build.ts";
import { LabCache } from "../lab/cache/cache.ts";
import { interruptible } from "./lab-kernel.ts";

/** How it is built. */
export interface LabBuildBochsOptions {
  /** The package archive; by default apt's. */
  readonly mirror?: string | undefined;
  /** Whether to rebuild an existing Bochs. */
  readonly rebuild?: boolean | undefined;
}

/** Builds it and prints its path; returns the exit status. */
export async function labBuildBochs(options: LabBuildBochsOptions): Promise<number> {
  return interruptible(async (signal) => {
    const onStep = (step: string): void => void process.stderr.write(`  ${step}\n`);
    const path = await buildBochs(LabCache.default(), { ...options, signal, onStep });
    process.stdout.write(`${path}\n`);
    return 0;
  });
}
