/** Tests of the files of this package that the lab copies to a guest. */
import { utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  checkProgram,
  guestFolder,
  installationEntries,
  type Root,
  suiteProgram,
} from "../../../../lib/lab/machine/installation.ts";
import { temporaryFolder } from "../temporary.ts";

const paths = (root: Root): readonly string[] => installationEntries(root).map(({ path }) => path);

test("the guest's root for the suite contains the suite's program, the addon and the assembler, but not vitest", () => {
  const found = paths("suite");
  const modules = found.map((path) => /node_modules\/(?!node-kvm\/)([^/]+)/.exec(path)?.[1]);
  expect(new Set(modules)).toEqual(new Set([undefined, "iced-x86"]));
  expect(found).toContain(suiteProgram());
  expect(found).toContain(`${guestFolder()}/dist/suite/display.cjs`);
  expect(found).toContain(`${guestFolder()}/build/Release/node_kvm.node`);
  expect(found).toContain(`${guestFolder()}/package.json`);
  expect(found.filter((path) => /\/(test|cli)\//.test(path))).toEqual([]);
});

test("the guest's root for lab exec contains the command, the claims and vitest", () => {
  const found = paths("package");
  expect(found).toContain(`${guestFolder()}/dist/cli/main.js`);
  expect(found).toContain(`${guestFolder()}/test/kvm/frozen.test.ts`);
  expect(found.some((path) => path.includes("/node_modules/vitest/"))).toBe(true);
});

function fileOf(second: number, name: string, folder: string): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  utimesSync(path, second, second);
  return path;
}

test("if the suite's program is missing or older than a claim, the error names both", () => {
  const folder = temporaryFolder();
  const program = fileOf(1000, "main.js", folder);
  const [older, same, newer] = [999, 1000, 1001].map((at) => fileOf(at, `${at}.ts`, folder));
  expect(() => checkProgram(program, [older ?? "", same ?? ""])).not.toThrow();
  expect(() => checkProgram(program, [older ?? "", newer ?? ""])).toThrow(
    `${program} is older than ${newer}; npm run build makes it in a checkout`,
  );
  expect(() => checkProgram(join(folder, "none.js"), [])).toThrow(
    `${join(folder, "none.js")} is missing; npm run build makes it in a checkout`,
  );
});
