/** A disk that is soon full: a tmpfs of a test's own. Mounting one takes root. */
import { execFileSync } from "node:child_process";
import { rmdirSync } from "node:fs";
import { onTestFinished } from "vitest";
import { temporaryFolder } from "../temporary.ts";

/** Mounts a disk of so many KiB; skips the test where that is not allowed. */
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
