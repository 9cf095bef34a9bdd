/**
 * Generates and checks the coverage table of the README. The sources are kvm-ioctls.tsv (which lists the ioctls that
 * other projects call), the methods of the classes, and the decoded exits.
 *
 * `npx vitest run --project house test/house/coverage.test.ts -u` writes the table.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { KVM_EXIT_HYPERV_SYNIC, KVM_EXIT_XEN_HCALL } from "../../lib/abi/generated/constants.ts";
import { type ExitReasonName, KVM_EXIT_REASONS } from "../../lib/abi/generated/names.ts";
import type { Run } from "../../lib/abi/generated/structs.ts";
import type { StructInput } from "../../lib/abi/struct.ts";
import { Device } from "../../lib/kvm/device.ts";
import { Kvm } from "../../lib/kvm/kvm.ts";
import { Vcpu } from "../../lib/kvm/vcpu.ts";
import { Vm } from "../../lib/kvm/vm.ts";
import { methodOf, readRows } from "../unit/kvm/every-ioctl.ts";
import { decode } from "../unit/kvm/kvm-run.ts";

const PROJECT = join(import.meta.dirname, "..", "..");
const README = join(PROJECT, "README.md");
const CLASSES = { sys: Kvm, vm: Vm, vcpu: Vcpu, dev: Device };

/** The number of x86 exits that the other projects decode, counted in their sources in November 2026. */
const OTHERS_EXITS: Readonly<Record<string, string>> = {
  "kvm-ioctls": "14 decoded, and 6 only named",
  hype: "1",
  gokvm: "1",
  crosvm: "16, without MSR and memory-fault exits",
  openvmm: "14",
  kvmtool: "not counted",
  "qemu10.0.13": "23",
};

/** An exit reason that the x86 header defines although no x86 VM causes it. */
const NEVER_MADE = ["nmi"];

/** For each exit with several variants, the values that select a variant. */
const FORMS: Readonly<Partial<Record<ExitReasonName, StructInput<Run>>>> = {
  KVM_EXIT_IO: { io: { size: 1, dataOffset: 4096n } },
  KVM_EXIT_HYPERV: { hyperv: { type: KVM_EXIT_HYPERV_SYNIC } },
  KVM_EXIT_XEN: { xen: { type: KVM_EXIT_XEN_HCALL } },
};

const rows = readRows();
const wrapped = rows.filter(
  ({ ioctl, fd }) => typeof Reflect.get(CLASSES[fd].prototype, methodOf(ioctl)) === "function",
);
const decoded = new Set(
  (Object.keys(KVM_EXIT_REASONS) as ExitReasonName[])
    .map((name) => decode({ exitReason: KVM_EXIT_REASONS[name], ...FORMS[name] }).kind)
    .filter((kind) => kind !== "unknown" && !NEVER_MADE.includes(kind)),
);

/** The other projects in kvm-ioctls.tsv, each with the sum of the project's column. */
function others(): readonly (readonly [string, number])[] {
  const file = join(PROJECT, "gen/facts/kvm-ioctls.tsv");
  const [header = "", ...lines] = readFileSync(file, "utf8").trimEnd().split("\n");
  const names = header.split("\t").slice(7);
  const sum = (column: number): number =>
    lines.reduce((total, line) => total + Number(line.split("\t")[7 + column]), 0);
  return names.map((name, i) => [name, sum(i)] as const).sort(([, a], [, b]) => b - a);
}

function table(): string {
  const lines = [
    ["", `(ioctl, fd) pairs of ${rows.length}`, "exits of 27"],
    ["---", "---", "---"],
    ["**node-kvm**", `**${wrapped.length}**`, `**${decoded.size}**`],
    ...others().map(([name, count]) => [
      name.replace(/(\d)/, " $1"),
      `${count}`,
      OTHERS_EXITS[name] ?? "",
    ]),
  ];
  const widths = [0, 1, 2].map((i) => Math.max(...lines.map((cells) => (cells[i] ?? "").length)));
  const row = (cells: readonly string[]): string =>
    cells.map((cell, i) => cell.padEnd(widths[i] ?? 0, cell === "---" ? "-" : " ")).join(" | ");
  return lines.map((cells) => `| ${row(cells)} |`).join("\n");
}

test("the coverage table: all 119 pairs of ioctl and descriptor have a method, and all 27 exits are decoded", () => {
  expect([rows.length, wrapped.length, decoded.size]).toEqual([119, 119, 27]);
});

test("the coverage table has a row for every project in the data", () => {
  expect(others().map(([name]) => OTHERS_EXITS[name])).not.toContain(undefined);
  expect(others()).toHaveLength(7);
});

test("the README's coverage table equals the generated table", async () => {
  const between = /(<!-- coverage -->\n)[\s\S]*(\n<!-- end -->)/;
  const readme = readFileSync(README, "utf8");
  expect(readme).toMatch(between);
  await expect(readme.replace(between, `$1\n${table()}\n$2`)).toMatchFileSnapshot(README);
});
