/** Tests of a hostile guest: its machine always ends, with a reason and with bounded memory of the host process. */
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { HOSTILE } from "./hostile.ts";
import { BOOTED, FD, ScriptedEmulator } from "./scripted-emulator.ts";

/** The time limit is generous, because a busy host is not a failure. */
vi.setConfig({ testTimeout: 120_000 });

/** A number of bytes above the limit of every port. */
const FLOOD_MB = 1100;

/** A guest that writes to a port without end. */
const flood = (port: number, what = "/dev/zero"): string =>
  `${BOOTED}; head -c ${FLOOD_MB}000000 ${what} >&${FD[port]}; exec sleep 1000`;

/** Returns the peak of the memory that the work needs, in addition to the memory in use before. Bytes. */
async function growth(work: (sample: () => void) => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage().rss;
  let most = before;
  const sample = (): void => {
    most = Math.max(most, process.memoryUsage().rss);
  };
  const timer = setInterval(sample, 20);
  await work(sample).finally(() => clearInterval(timer));
  sample();
  return most - before;
}

describe("a machine is killed if its guest writes", () => {
  test.each(HOSTILE)("$title", async ({ control, why }) => {
    const emulator = new ScriptedEmulator(
      `${BOOTED}; cat "$(dirname "$0")/control" >&6; exec sleep 1000`,
    );
    writeFileSync(join(emulator.folder, "control"), control);
    const result = await emulator.run({ wanted: ["/out"], timeout: 20_000 });
    expect(result).toMatchObject({
      kind: "refused",
      why: expect.stringContaining(why),
      kernelLog: "[ 0.1] Linux version 6.12\n",
    });
    expect(result.kind === "refused" && result.why).not.toMatch(/[^ -~…]/);
    expect(existsSync("/X")).toBe(false);
  });
});

describe("a machine whose guest writes without end is killed, its earlier output is kept and memory is bounded, on", () => {
  test.each([
    [0, "more than 16777216 bytes to the kernel's log on ttyS0", 400],
    [1, "more than 67108864 bytes to the command's stdout on ttyS1", 400],
    [2, "more than 67108864 bytes to the command's stderr on ttyS2", 400],
    [3, "a line of more than 8192 bytes on ttyS3", 100],
  ] as const)("ttyS%i", async (port, why, megabytes) => {
    const emulator = new ScriptedEmulator(flood(port));
    const most = await growth(async () => {
      const result = await emulator.run();
      expect(result).toMatchObject({ kind: "refused", why: `the guest wrote ${why}` });
    });
    expect(most).toBeLessThan(megabytes * 1e6);
  });

  test.each([
    ["words", "yes beat >&6", "lines on ttyS3", 200],
    ["noise", "yes '' >&6", "lines on ttyS3", 200],
    [
      "files",
      `printf 'status 0 0 0\nfile ${2 ** 28} /out/a\n' >&6; cat /dev/zero >&6`,
      "more than 268435456 bytes on ttyS3",
      700,
    ],
  ])("ttyS3, by %s", async (_, script, why, megabytes) => {
    const emulator = new ScriptedEmulator(`${BOOTED}; ${script}; exec sleep 1000`);
    const most = await growth(async () => {
      const result = await emulator.run({ wanted: ["/out"] });
      expect(result).toMatchObject({ kind: "refused", why: expect.stringContaining(why) });
    });
    expect(most).toBeLessThan(megabytes * 1e6);
  });
});

test("passing on half a gigabyte of a guest's output needs constant memory", async () => {
  const bytes = 500e6;
  const emulator = new ScriptedEmulator(
    `${BOOTED}; head -c ${bytes} /dev/zero >&4; printf 'status 0 ${bytes} 0\\nend\\n' >&6`,
  );
  let heard = 0;
  const most = await growth(async (sample) => {
    const onStdout = ({ length }: Buffer): void => {
      heard += length;
      sample();
    };
    const result = await emulator.run({ onStdout });
    expect(result).toMatchObject({ kind: "exited", status: 0 });
    expect(result.stdout).toHaveLength(64 * 1024);
  });
  expect(heard).toBe(bytes);
  expect(most).toBeLessThan(150e6);
});

test("if an emulator itself prints 600 MB, the run fails with the emulator's last lines", async () => {
  const emulator = new ScriptedEmulator(
    "head -c 600000000 /dev/zero >&2; echo 'qemu: no such CPU' >&2; exit 1",
  );
  const most = await growth(async () => {
    await expect(emulator.run()).rejects.toThrow("qemu: no such CPU");
  });
  expect(most).toBeLessThan(150e6);
});

test("an exception of a log listener ends the machine, and the run fails with the exception", async () => {
  const emulator = new ScriptedEmulator(`${BOOTED}; echo out >&4; exec sleep 1000`);
  const onStdout = (): void => {
    throw new RangeError("no room");
  };
  await expect(emulator.run({ onStdout })).rejects.toThrow(new RangeError("no room"));
  expect(readdirSync(join(emulator.folder, "cache/building"))).toEqual([]);
});

test("a kernel log line without an end is split, and needs no more memory than other lines", async () => {
  const emulator = new ScriptedEmulator(
    `${BOOTED}; head -c 10000000 /dev/zero | tr '\\0' a >&3; printf 'status 0 0 0\\nend\\n' >&6`,
  );
  let longest = 0;
  const onKernelLog = (line: string): void => {
    longest = Math.max(longest, line.length);
  };
  const { kernelLog } = await emulator.run({ onKernelLog });
  expect(kernelLog).toBe(`[ 0.1] Linux version 6.12\n${"a".repeat(10_000_000)}\n`);
  expect(longest).toBeLessThan(100_000);
});
