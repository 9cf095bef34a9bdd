/** The README's program runs as written, and prints what the README says. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const DEVICE = process.env["NODE_KVM_DEVICE"] ?? "/dev/kvm";

const program = readFileSync(join(ROOT, "README.md"), "utf8").match(/```js\n(.*?)```/s)?.[1] ?? "";

test("the README's first program is the first example", () => {
  const example = readFileSync(join(ROOT, "examples/01-frozen-cpuid.js"), "utf8");
  expect(example.replace(/^\/\/.*\n/, "")).toBe(program);
});

test("the README's first program names the changed bit", ({ skip }) => {
  skip(!existsSync(DEVICE), `there is no ${DEVICE}`);
  // Beside the project's files, so that `node-kvm` means this package.
  const folder = mkdtempSync(join(ROOT, "build/readme-"));
  try {
    writeFileSync(join(folder, "program.mjs"), program);
    const output = execFileSync(process.execPath, [join(folder, "program.mjs")], {
      encoding: "utf8",
    });
    expect(output).toMatch(
      /^\{ kind: 'hlt' \}\nKVM_SET_CPUID2 \(vcpu 0\): EINVAL: .*0x7\.0:ebx\[5\] avx2: ran with [01], got [01]\n$/,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
