/** `node-kvm lab build-bochs`: builds the emulator for kvm_intel into the cache. */
import { buildBochs } from "../lab/bochs/build.ts";
import { LabCache } from "../lab/cache/cache.ts";
import { interruptible } from "./interrupt.ts";

/** The options of the build of Bochs. */
export interface LabBuildBochsOptions {
  /** The address of the package archive; by default, the archive that apt uses on this machine. */
  readonly mirror?: string | undefined;
  /** Whether to rebuild an existing Bochs. */
  readonly rebuild?: boolean | undefined;
}

/** Builds Bochs and prints the path of its program; returns the exit status. */
export async function labBuildBochs(options: LabBuildBochsOptions): Promise<number> {
  return interruptible(async (signal) => {
    const onStep = (step: string): void => void process.stderr.write(`  ${step}\n`);
    const path = await buildBochs(LabCache.default(), { ...options, signal, onStep });
    process.stdout.write(`${path}\n`);
    return 0;
  });
}
