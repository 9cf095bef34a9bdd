/** Tests of the backing of guest memory: huge pages, a memfd, a file. The tests need the addon, but no KVM. */
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, type TestContext, test } from "vitest";
import { KvmError } from "../../../../lib/errors.ts";
import {
  GuestMemory,
  type GuestMemoryOptions,
  type MapFileOptions,
} from "../../../../lib/kvm/memory/guest-memory.ts";
import { refusal } from "../on-device.ts";

const PAGE = 4096;
const MIB = 2 ** 20;
const OURS = "/memfd:node-kvm guest memory (deleted)";

function keep(memory: GuestMemory): GuestMemory {
  onTestFinished(() => memory.close());
  return memory;
}

const allocate = (byteLength: number, options: GuestMemoryOptions): GuestMemory =>
  keep(GuestMemory.allocate(byteLength, options));
const mapFile = (path: string, options?: MapFileOptions): GuestMemory =>
  keep(GuestMemory.mapFile(path, options));

/** Creates a temporary directory for a test. */
function directory(): string {
  const path = mkdtempSync(join(tmpdir(), "node-kvm-"));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
}

/** Creates a file in which every byte is the number of its page, counted from 1. */
function file(byteLength: number): string {
  const path = join(directory(), "file");
  writeFileSync(
    path,
    Uint8Array.from({ length: byteLength }, (_, at) => 1 + Math.floor(at / PAGE)),
  );
  return path;
}

/** Returns the number of bytes of this process's memory that have a flag; /proc/self/smaps lists the flags. */
function flagged(flag: string): number {
  const mapped = readFileSync("/proc/self/smaps", "latin1").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const sizes = mapped
    .filter((one) => /VmFlags:(.*)/.exec(one)?.[1]?.split(" ").includes(flag))
    .map((one) => 1024 * Number(/^Size: +(\d+) kB/m.exec(one)?.[1]));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Lists the paths by which another process can open the memfds of this process. */
const memfds = (): readonly string[] =>
  readdirSync("/proc/self/fd")
    .map((fd) => `/proc/self/fd/${fd}`)
    .filter((path) => linkOf(path) === OURS);

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ""; // the descriptor of the directory listing, which is closed by now
  }
}

describe("shared guest memory", () => {
  test("is a memfd that other processes can open, and shows the same bytes", () => {
    const memory = allocate(3 * PAGE, { shared: true });
    memory.write(PAGE, Uint8Array.of(5, 6));
    const [path = ""] = memfds();
    const seen = readFileSync(path);
    expect([seen.length, seen.subarray(PAGE, PAGE + 2)]).toEqual([3 * PAGE, Buffer.of(5, 6)]);
    writeFileSync(path, Buffer.of(9), { flag: "r+" });
    expect(memory.read(0, 1)).toEqual(Uint8Array.of(9));
  });

  test.each([
    ["shrink", PAGE],
    ["grow", 4 * PAGE],
  ])("cannot %s", (_, byteLength) => {
    allocate(3 * PAGE, { shared: true });
    const [path = ""] = memfds();
    expect(() => truncateSync(path, byteLength)).toThrow("EPERM");
  });

  test("has one descriptor, which is closed when the memory is closed", () => {
    const memory = allocate(PAGE, { shared: true });
    expect(memfds()).toHaveLength(1);
    memory.close();
    expect(memfds()).toHaveLength(0);
  });

  test("of 0 bytes is rejected with the errno of mmap", () => {
    expect(() => GuestMemory.allocate(0, { shared: true })).toThrow("mmap (guest memory): EINVAL");
  });

  test("that is too large is rejected, and leaves no descriptor", () => {
    expect(() => GuestMemory.allocate(2 ** 53 - 1, { shared: true })).toThrow(
      "mmap (guest memory): ENOMEM",
    );
    expect(memfds()).toHaveLength(0);
  });
});

describe("the populate option of guest memory", () => {
  test.each([
    ["anonymous", {}],
    ["shared", { shared: true }],
  ])("allocates all pages of %s memory at once", (_, options) => {
    const before = process.memoryUsage.rss();
    allocate(64 * MIB, { ...options, populate: true });
    expect(process.memoryUsage.rss() - before).toBeGreaterThan(60 * MIB);
  });

  test("reads a private mapping of a file completely: later changes of the file are not visible", () => {
    const path = file(3 * PAGE);
    const memory = mapFile(path, { populate: true });
    writeFileSync(path, new Uint8Array(3 * PAGE), { flag: "r+" });
    expect(memory.read(2 * PAGE, 1)).toEqual(Uint8Array.of(3));
  });
});

describe("the advice that guest memory passes to the kernel", () => {
  test.each([
    ["no dump", { dump: false }, "dd"],
    ["merging", { mergeable: true }, "mg"],
    ["transparent huge pages", { hugePages: "transparent" }, "hg"],
  ] as const)("covers all of the memory, for %s", (_, options, flag) => {
    const before = flagged(flag);
    allocate(4 * MIB, options);
    expect(flagged(flag) - before).toBe(4 * MIB);
  });

  test.each(["dd", "mg", "hg"])("is passed only if the option is set: %s", (flag) => {
    const before = flagged(flag);
    allocate(4 * MIB, {});
    expect(flagged(flag)).toBe(before);
  });
});

/** Allocates memory of huge pages; skips the test with a reason if the host has no huge pages. */
function hugeOrSkip(
  { skip }: TestContext,
  byteLength: number,
  options: GuestMemoryOptions,
): GuestMemory {
  try {
    return allocate(byteLength, options);
  } catch (error) {
    return skip(error instanceof KvmError ? error.message : String(error));
  }
}

// test/lifecycle/lost-pages.test.ts tests huge pages that are not reserved: an access may raise SIGBUS.
describe("huge pages for guest memory", () => {
  test("of 2 MiB are reserved at once", (context) => {
    const memory = hugeOrSkip(context, 4 * MIB, { hugePages: "2M" });
    memory.bytes.fill(1);
    expect(memory.isDamaged).toBe(false);
  });

  test("are rejected if too few are free, and the error states the number of free pages", () => {
    const tooMany = 2 ** 46;
    const error = refusal(() => GuestMemory.allocate(tooMany, { hugePages: "2M" }));
    expect([error.call, error.code]).toEqual(["mmap", "ENOMEM"]);
    expect(error.reason).toMatch(/^33554432 huge pages of 2 MiB are needed, but \d+ are free; /);
  });

  test("of an unknown size cause a TypeError", () => {
    const wrong = { hugePages: "4M" } as unknown as GuestMemoryOptions;
    expect(() => GuestMemory.allocate(PAGE, wrong)).toThrow(
      new TypeError(
        'GuestMemory.allocate(): hugePages: expected "transparent", "2M", "1G", got "4M"',
      ),
    );
  });
});

describe("guest memory that maps a file", () => {
  test("shows the file's content", () => {
    const memory = mapFile(file(3 * PAGE));
    expect([memory.byteLength, memory.bytes[0], memory.bytes[2 * PAGE]]).toEqual([3 * PAGE, 1, 3]);
  });

  test("does not change the file", () => {
    const path = file(3 * PAGE);
    const before = readFileSync(path);
    const memory = mapFile(path);
    memory.bytes.fill(0xee);
    expect(memory.read(PAGE, 1)).toEqual(Uint8Array.of(0xee));
    memory.close();
    expect(readFileSync(path)).toEqual(before);
  });

  test("may be read-only", () => {
    const memory = mapFile("/proc/self/exe", { byteLength: PAGE });
    memory.bytes[0] = 0;
    expect(memory.read(0, 4)).toEqual(Uint8Array.of(0, 0x45, 0x4c, 0x46)); // \0ELF
  });

  test("may begin at an offset in the file", () => {
    const memory = mapFile(file(3 * PAGE), { offset: PAGE });
    expect([memory.byteLength, memory.bytes[0]]).toEqual([2 * PAGE, 2]);
  });

  test("may map a part of the file", () => {
    const memory = mapFile(file(3 * PAGE), { offset: PAGE, byteLength: PAGE });
    expect(memory.bytes).toEqual(new Uint8Array(PAGE).fill(2));
  });

  test("reads as zeros from the file's end to the end of its last page", () => {
    const memory = mapFile(file(PAGE + 1));
    expect([memory.byteLength, memory.read(PAGE, 3)]).toEqual([2 * PAGE, Uint8Array.of(2, 0, 0)]);
  });

  test("causes a RangeError if the file is shorter than the requested length", () => {
    const path = file(PAGE + 1);
    expect(() => GuestMemory.mapFile(path, { byteLength: 3 * PAGE })).toThrow(
      new RangeError(`${path}: 12288 bytes at 0 are beyond the file's 4097`),
    );
    expect(() => GuestMemory.mapFile(path, { offset: 2 * PAGE, byteLength: PAGE })).toThrow(
      new RangeError(`${path}: 4096 bytes at 8192 are beyond the file's 4097`),
    );
  });

  test.each([
    ["an offset inside a page", { offset: 100 }, "the offset 100 is not a multiple of 4096"],
    ["an offset at its end", { offset: 2 * PAGE }, "the file has no content at offset 8192"],
  ])("from %s is rejected with the errno of mmap and the reason", (_, options, reason) => {
    const path = file(2 * PAGE);
    expect(() => GuestMemory.mapFile(path, options)).toThrow(
      new KvmError({ call: "mmap", object: path, errno: 22, args: { path, ...options }, reason }),
    );
  });

  test.each([
    ["a directory", "/tmp"],
    ["a device", "/dev/zero"],
  ])("is rejected if the file is %s", (_, path) => {
    expect(() => GuestMemory.mapFile(path)).toThrow(
      `mmap (${path}): ENODEV: only regular files can be guest memory`,
    );
  });

  test("is rejected with the errno of open() if the file cannot be opened", () => {
    const path = join(directory(), "loop");
    symlinkSync(path, path);
    expect(() => GuestMemory.mapFile(path)).toThrow(`open (${path}): ELOOP`);
    expect(() => GuestMemory.mapFile("/nowhere/file")).toThrow("open (/nowhere/file): ENOENT");
    expect(() => GuestMemory.mapFile("/tmp\0")).toThrow(
      new TypeError('GuestMemory.mapFile(): path: "/tmp\\u0000" contains a NUL character'),
    );
  });

  test("leaves no descriptor open, whether it was mapped or rejected", () => {
    const path = file(PAGE);
    const before = readdirSync("/proc/self/fd").length;
    mapFile(path);
    expect(() => GuestMemory.mapFile(path, { byteLength: 9 * PAGE })).toThrow(RangeError);
    expect(() => GuestMemory.mapFile("/tmp")).toThrow(KvmError);
    expect(readdirSync("/proc/self/fd")).toHaveLength(before);
  });

  test("has isDamaged false before the file is truncated", () => {
    const memory = mapFile(file(PAGE));
    memory.bytes.fill(1);
    expect(memory.isDamaged).toBe(false);
  });
});
