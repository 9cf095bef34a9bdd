/** Tests of whole guest programs: image, code and limits. */
import { describe, expect, test } from "vitest";
import {
  CR4_OSXSAVE,
  type GuestBuilder,
  guest,
  MEMORY_SIZE,
  type ModeName,
  modes,
  RESULTS_GPA,
  TABLE_GPA,
} from "../../../lib/guest/index.ts";
import { listing } from "./listing.ts";

const names: readonly ModeName[] = ["real", "protected", "long", "user"];

function shown(name: ModeName, build: (g: GuestBuilder) => unknown): string {
  const { code, regs } = guest(name, build);
  return listing(modes[name].bitness, code, regs.rip);
}

describe("the guest program", () => {
  test("of the documentation is assembled", () => {
    const text = shown("long", (g) => g.cpuid(0x1).sync().setCr4(CR4_OSXSAVE).done());
    expect(text).toMatchInlineSnapshot(`
      "mov eax,1
      mov ecx,0
      cpuid
      mov [0x4100],rax
      mov [0x4108],rbx
      mov [0x4110],rcx
      mov [0x4118],rdx
      mov dword [0x4000],4
      mov dx,0x505
      mov al,1
      out dx,al
      mov rax,cr4
      mov rcx,0x40000
      or rax,rcx
      mov cr4,rax
      mov dx,0x505
      mov al,2
      out dx,al
      jmp short 0x0000000000010059
      hlt
      jmp short 0x000000000001005C"
    `);
  });

  test.each(names)("writes every action in %s mode", (name) => {
    const text = shown(name, (g) =>
      g
        .rdmsr(0x10)
        .wrmsr(0x277, 0x0007_0406_0007_0406n)
        .xgetbv()
        .xsetbv(7n)
        .rdtsc()
        .clearCr4(CR4_OSXSAVE)
        .outb(0x80, 1)
        .outw(0x80, 2)
        .outl(0x80, 0xffff_ffff)
        .inb(0x60)
        .inw(0x60)
        .inl(0x60)
        .read(0xc_0004, 8)
        .write(0xc_0004, -1, 32)
        .monitor()
        .mwait()
        .sync(0xffff_ffff_ffff_ffffn)
        .attempt((inner) => inner.cpuid(0, 1).ud2())
        .cpuidAll([{ function: 0x8000_0000, index: 0 }])
        .asm((a) => a.mov("ax", "ds"))
        .record("ax")
        .hlt()
        .loopForever((inner) => inner.sync(1)),
    );
    expect(text).toMatchSnapshot();
  });

  test("is loaded into memory with the code at the entry point and the inputs of cpuidAll() in their table", () => {
    const memory = new Uint8Array(MEMORY_SIZE);
    const inputs = [{ function: 0x8000_0001, index: 2 }];
    const program = guest("real", (g) => g.cpuidAll(inputs).cpuidAll([{ function: 7, index: 1 }]));
    program.load(memory);
    const entry = Number(program.entry);
    expect(memory.subarray(entry, entry + program.code.length)).toEqual(program.code);
    expect([...new Uint32Array(memory.buffer, TABLE_GPA, 4)]).toEqual([0x8000_0001, 2, 7, 1]);
    expect(memory[RESULTS_GPA]).toBe(0);
  });

  test("is loaded in the same way into memory that is not a byte array", () => {
    const [array, other] = [new Uint8Array(MEMORY_SIZE), new Uint8Array(MEMORY_SIZE)];
    const program = guest("long", (g) => g.sync().done());
    program.load(array);
    program.load({ write: (gpa, bytes) => other.set(bytes, gpa) });
    expect(Buffer.compare(array, other)).toBe(0);
    expect(program.image().length).toBeGreaterThan(4);
  });

  test("is rejected by load() with a RangeError if the memory is too small", () => {
    const program = guest("real", (g) => g.done());
    expect(() => program.load(new Uint8Array(4096))).toThrow(RangeError);
  });

  test.each<[string, ModeName, (g: GuestBuilder) => unknown]>([
    ["481 values", "long", (g) => g.sync(...Array.from({ length: 481 }, () => 0))],
    ["a value of 65 bits", "long", (g) => g.sync(1n << 64n)],
    ["64 bits in 32-bit code", "protected", (g) => g.read(0, 64)],
    ["a gpa beyond real mode", "real", (g) => g.read(0xf_ffff, 16)],
    ["a gpa beyond 4 GiB", "long", (g) => g.write(0xffff_ffff, 0, 16)],
    ["bit 32 of a 32-bit CR4", "protected", (g) => g.setCr4(1n << 32n)],
    [
      "4097 inputs of CPUID",
      "long",
      (g) => g.cpuidAll(Array(4097).fill({ function: 0, index: 0 })),
    ],
    ["65 KiB of code", "real", (g) => g.asm((a) => a.db(...Array(65 * 1024).fill(0x90)))],
  ])("cannot be built with %s", (_, name, build) => {
    expect(() => guest(name, build)).toThrow(RangeError);
  });

  test("cannot contain an attempt within an attempt, or a sync within an attempt", () => {
    expect(() => guest("long", (g) => g.attempt((a) => a.attempt((b) => b.ud2())))).toThrow(
      "another",
    );
    expect(() => guest("long", (g) => g.attempt((a) => a.sync()))).toThrow("cannot sync");
  });
});
