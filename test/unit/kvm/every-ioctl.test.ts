/**
 * Tests that every (ioctl, fd) pair of KVM on x86 has a public method, and that the kernel handles the method's ioctl.
 * Needs KVM.
 */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { Device } from "../../../lib/kvm/device.ts";
import { defaultDevice, Kvm } from "../../../lib/kvm/kvm.ts";
import { Vcpu } from "../../../lib/kvm/vcpu.ts";
import { Vm } from "../../../lib/kvm/vm.ts";
import { type Answer, isKernels, methodOf, PROGRAM, readRows } from "./every-ioctl.ts";

const rows = readRows();
const CLASSES = { sys: Kvm, vm: Vm, vcpu: Vcpu, dev: Device };

describe("each pair of an ioctl and a descriptor has a public method:", () => {
  test.each(rows)("$ioctl on $fd", ({ ioctl, fd }) => {
    expect(CLASSES[fd].prototype).toHaveProperty(methodOf(ioctl), expect.any(Function));
  });

  test("the table has 119 pairs", () => {
    expect(rows).toHaveLength(119);
  });

  test("every-ioctl.js calls the method of each pair", () => {
    const program = readFileSync(PROGRAM, "utf8");
    const called = Array.from(
      program.matchAll(/^ {2}"(KVM_\w+ \w+)": \(\) =>/gm),
      ([, row]) => row,
    );
    expect(called).toEqual(rows.map(({ ioctl, fd }) => `${ioctl} ${fd}`));
  });
});

test("the kernel of this host handles every ioctl of the table", async ({ skip }) => {
  skip(!existsSync(defaultDevice()), `there is no ${defaultDevice()}`);
  skip(!existsSync(join(import.meta.dirname, "../../../dist/index.js")), "dist/ is not built");
  const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM]);
  const answers = JSON.parse(stdout) as readonly Answer[];
  expect(answers.filter((answer) => !isKernels(answer))).toEqual([]);
  expect(answers).toHaveLength(119);
});
