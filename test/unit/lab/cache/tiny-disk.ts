/** Mounts a small disk: a tmpfs for one test. The mount requires root. */
import { execFileSync } from "node:child_process";
import { rmdirSync } from "node:fs";
import { onTestFinished } from "vitest";
import { temporaryFolder } from "../temporary.ts";

/** Mounts a disk of this size in KiB; skips the test if mounting is not permitted. */
export function tinyDisk(kibibytes: number, skip: (reason: string) => never): string {
  const folder = temporaryFolder();
  try {
    const options = ["-t", "tmpfs", "-o", `size=${kibibytes}k,mode=700`, "tmpfs", folder];
    run("mount", options);
  } catch {
    return skip("mounting a small disk takes root");
  }
  onTestFinished(() => {
    run("umount", [folder]);
    rmdirSync(folder);
  });
  return folder;
}

function run(program: string, args: readonly string[]): void {
  execFileSync(program, args, { stdio: "pipe" });
}
