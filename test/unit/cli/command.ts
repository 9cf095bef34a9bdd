/** Runs the built command as a user does, and returns its output and exit status. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const MAIN: string = join(
  fileURLToPath(new URL("../../..", import.meta.url)),
  process.env["NODE_KVM_TEST_DIST"] ?? "dist",
  "cli/main.js",
);

/** The output and the exit status of a run. */
export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `node-kvm` with these arguments until it ends. */
export function command(
  args: readonly string[],
  options: {
    readonly input?: string | Uint8Array;
    readonly env?: Readonly<Record<string, string>>;
    readonly main?: string;
  } = {},
): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [options.main ?? MAIN, ...args], {
    encoding: "utf8",
    timeout: 60_000,
    input: options.input ?? "",
    env: { ...process.env, NO_COLOR: "1", ...options.env },
  });
  return { status, stdout, stderr };
}
