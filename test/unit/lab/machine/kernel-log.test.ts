/** Tests of kernel logs: some lines report a fault of the kernel, other lines are only warnings. */
import { describe, expect, test } from "vitest";
import { crashReport, KernelLog } from "../../../../lib/lab/machine/kernel-log.ts";

function read(...pieces: readonly string[]): KernelLog {
  const log = new KernelLog();
  for (const piece of pieces) log.push(Buffer.from(piece));
  log.end();
  return log;
}

describe("the kernel log of a machine", () => {
  test("is split into complete lines without carriage returns, in whatever pieces its bytes arrive", () => {
    expect(read("[    0.1] Linux ver", "sion 6.12\r\n[    0.2] cut").text).toBe(
      "[    0.1] Linux version 6.12\n[    0.2] cut\n",
    );
  });

  test("passes on each complete line", () => {
    const heard: string[] = [];
    const log = new KernelLog((line) => heard.push(line));
    log.push(Buffer.from("a\r\nb"));
    expect(heard).toEqual(["a"]);
  });

  test.each([
    "[    4.183211] WARNING: CPU: 0 PID: 77 at arch/x86/kvm/x86.c:1234 kvm_x+0x1/0x2 [kvm]",
    "[    4.183211] WARNING: arch/x86/kvm/x86.c:1234 at kvm_x+0x1/0x2 [kvm], CPU#0: node/77",
    "[    4.183211] BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "[    4.183211] kernel BUG at arch/x86/kvm/mmu/mmu.c:99!",
    "[    4.183211] Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "[    4.183211] traps: PANIC: double fault, error_code: 0x0",
    "[    4.183211] general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
    "[    4.183211] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [node:77]",
    "[    4.183211] rcu: INFO: rcu_preempt self-detected stall on CPU",
    "[    4.183211] INFO: task node:77 blocked for more than 120 seconds.",
    "[    4.183211] Kernel panic - not syncing: sysrq triggered crash",
    "[    4.183211] unchecked MSR access error: RDMSR from 0x123 at rIP: 0xffffffff81000000",
  ])("recognises a kernel fault: %s", (line) => {
    expect(read(`[    0.1] Linux\r\n${line}\r\n`).warnings).toEqual([line]);
  });

  test.each([
    "[    0.071234] RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks",
    "[    0.071234] kvm [77]: vcpu0, guest rIP: 0x1000 MONITOR instruction emulated as NOP!",
    "[    0.071234] rcu: Hierarchical RCU implementation.",
    "[    0.071234] x86/mm: Checked W+X mappings: passed, no W+X pages found.",
    "[    0.071234] PCI: Using configuration type 1 for base access; BIOS bug",
  ])("recognises a warning that is not a fault: %s", (line) => {
    expect(read(`${line}\r\n`).warnings).toEqual([]);
  });
});

describe("a long kernel log", () => {
  test("of one line is passed on in parts, and kept as one line", () => {
    const heard: string[] = [];
    const log = new KernelLog((line) => heard.push(line));
    for (let i = 0; i < 40_000; i++) log.push(Buffer.from("a"));
    log.push(Buffer.from("\n"));
    log.end();
    expect(heard.map((line) => line.length)).toEqual([16_385, 16_385, 7230]);
    expect(log.text).toBe(`${"a".repeat(40_000)}\n`);
  });

  test("is kept up to its limit, and the run fails with a reason", () => {
    const log = new KernelLog(undefined, 10);
    expect(() => log.push(Buffer.from("1 BUG: 7890123"))).toThrow(
      expect.objectContaining({
        code: "ERR_LAB_GUEST",
        message: "the guest wrote more than 10 bytes to the kernel's log on ttyS0",
      }),
    );
    expect(log.text).toBe("1 BUG: 789\n");
  });

  test("with more than a thousand warnings is reported with a thousand warnings and the number of omitted warnings", () => {
    const log = new KernelLog();
    log.push(Buffer.from("BUG: x\n".repeat(1500)));
    expect(log.warnings).toHaveLength(1001);
    expect(log.warnings.at(-1)).toBe("500 more lines like these are in the log");
  });
});

describe("the crash report of a machine", () => {
  test("starts at the first kernel fault in the log", () => {
    expect(crashReport("[ 0.1] fine\n[ 0.2] BUG: bad\n[ 0.3] Call Trace:\n")).toBe(
      "[ 0.2] BUG: bad\n[ 0.3] Call Trace:",
    );
  });

  test("is the end of the log if the log has no fault", () => {
    const lines = Array.from({ length: 50 }, (_, i) => `line ${i}`);
    expect(crashReport(lines.join("\n")).split("\n")).toEqual(lines.slice(-20));
  });
});
