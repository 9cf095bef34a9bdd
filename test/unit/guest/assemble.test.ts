/** Tests of the assembler: its encodings, which a disassembler reads back, and its errors. */
import { describe, expect, test } from "vitest";
import { Assembler, at, mem } from "../../../lib/guest/index.ts";
import { listing } from "./listing.ts";

function shown(bitness: 16 | 32 | 64, write: (a: Assembler) => unknown, rip = 0n): string {
  const a = new Assembler(bitness);
  write(a);
  return listing(bitness, a.assemble(rip), rip);
}

describe("the assembler for guest code", () => {
  test("assembles a program for real mode", () => {
    const code = new Assembler(16).mov("al", 0x2a).out(8, 0x10).hlt().assemble(0n);
    expect([...code]).toEqual([0xb0, 0x2a, 0xe6, 0x10, 0xf4]);
  });

  test("chooses the form of MOV by its operands", () => {
    const text = shown(64, (a) =>
      a
        .mov("rax", 1)
        .mov("rax", -1)
        .mov("rax", 0x1234_5678_9abcn)
        .mov("rax", 0xffff_ffff)
        .mov("r9d", 0xffff_ffff)
        .mov("cl", "dl")
        .mov("rax", "cr4")
        .mov("cr3", "rax")
        .mov("dr7", "rcx")
        .mov("ds", "ax")
        .mov(mem(16, { base: "rsi", index: "rcx", scale: 4, displacement: -8 }), "bx")
        .mov("ebx", mem(32, { base: "rdi", displacement: 0x1000, segment: "gs" }))
        .mov(mem(64, 0x4000), -1),
    );
    expect(text).toMatchInlineSnapshot(`
      "mov rax,1
      mov rax,0xFFFFFFFFFFFFFFFF
      mov rax,0x123456789ABC
      mov rax,0xFFFFFFFF
      mov r9d,0xFFFFFFFF
      mov cl,dl
      mov rax,cr4
      mov cr3,rax
      mov dr7,rcx
      mov ds,ax
      mov [rsi+rcx*4-8],bx
      mov ebx,[gs:rdi+0x1000]
      mov qword [0x4000],0xFFFFFFFFFFFFFFFF"
    `);
  });

  // iced-x86 1.21.0 prints a 64-bit immediate truncated to 32 bits if the low half is at most 9, so bytes are compared.
  test("moves a 64-bit immediate whose low half is zero", () => {
    const code = new Assembler(64).mov("rax", 0x1_0000_0000n).assemble(0n);
    expect([...code]).toEqual([0x48, 0xb8, 0, 0, 0, 0, 1, 0, 0, 0]);
  });

  test("chooses short immediates of arithmetic", () => {
    const text = shown(32, (a) =>
      a.add("eax", 8).sub("eax", 0x1234).cmp("al", -1).and("ecx", "edx").or("ecx", mem(32, 4)),
    );
    expect(text).toMatchInlineSnapshot(`
      "add eax,8
      sub eax,0x1234
      cmp al,0xFF
      and ecx,edx
      or ecx,[4]"
    `);
  });

  test.each([16, 32, 64] as const)(
    "writes the %i-bit form of instructions that have a width",
    (bitness) => {
      const text = shown(bitness, (a) =>
        a.pushf().popf().iret().ret().retf().push(5).push(0x1234).monitor().lgdt(mem(32, 8)),
      );
      expect(text).toMatchSnapshot();
    },
  );

  test("writes system instructions", () => {
    const text = shown(64, (a) =>
      a
        .cpuid()
        .rdmsr()
        .wrmsr()
        .xgetbv()
        .xsetbv()
        .rdtsc()
        .mwait()
        .vmcall()
        .vmmcall()
        .syscall()
        .ud2()
        .fninit()
        .cli()
        .sti()
        .hlt()
        .nop()
        .int(0x80)
        .ltr("ax")
        .lidt(mem(64, 0x4000))
        .invlpg(mem(8, { base: "rax" }))
        .push("fs")
        .pop("fs"),
    );
    expect(text).toMatchInlineSnapshot(`
      "cpuid
      rdmsr
      wrmsr
      xgetbv
      xsetbv
      rdtsc
      mwait
      vmcall
      vmmcall
      syscall
      ud2
      fninit
      cli
      sti
      hlt
      nop
      int 0x80
      o16 ltr ax
      lidt [0x4000]
      invlpg [rax]
      push fs
      pop fs"
    `);
  });

  test("writes string and port instructions", () => {
    const text = shown(32, (a) => a.repIns(8).repOuts(32).in(16, "dx").out(32, "dx").in(8, 0x60));
    expect(text).toMatchInlineSnapshot(`
      "rep insb
      rep outsd
      in ax,dx
      out dx,eax
      in al,0x60"
    `);
  });

  test("writes inc, dec, shifts, test and the stack", () => {
    const text = shown(32, (a) =>
      a
        .inc("eax")
        .dec(mem(8, 0x10))
        .shl("ecx", 4)
        .shr("ecx", 1)
        .test("eax", "eax")
        .push("ebp")
        .pop("ebp")
        .xor("al", 1),
    );
    expect(text).toMatchInlineSnapshot(`
      "inc eax
      dec byte [0x10]
      shl ecx,4
      shr ecx,1
      test eax,eax
      push ebp
      pop ebp
      xor al,1"
    `);
  });

  test("resolves labels forwards and backwards, near and far", () => {
    const text = shown(
      64,
      (a) => {
        a.label("start")
          .jmp("end")
          .call("start")
          .loop("start")
          .jcc("ne", "end")
          .lea("rax", "start");
        a.db(...Array.from({ length: 200 }, () => 0x90)).label("end");
      },
      0x1_0000n,
    );
    expect(text.split("\n").filter((line) => line !== "nop")).toMatchInlineSnapshot(`
      [
        "jmp 0x00000000000100E1",
        "call 0x0000000000010000",
        "loop 0x0000000000010000",
        "jne near 0x00000000000100E1",
        "lea rax,[rel 0x10000]",
      ]
    `);
  });

  test("emits any instruction form by its name", () => {
    const text = shown(64, (a) =>
      a
        .label("l")
        .emit("Crc32_r32_rm8", "eax", "cl")
        .emit("Jmp_rel32_64", at("l"))
        .emitWith("pause", (x86) => x86.Instruction.create(x86.Code.Pause)),
    );
    expect(text).toMatchInlineSnapshot(`
      "crc32 eax,cl
      jmp short 0
      pause"
    `);
  });

  test("copies any number of raw bytes", () => {
    const bytes = Array.from({ length: 40 }, (_, i) => i);
    expect([...new Assembler(16).db(...bytes).assemble(0n)]).toEqual(bytes);
  });

  test("can assemble the same code at two addresses", () => {
    const a = new Assembler(64).label("l").lea("rax", "l").jmp("l");
    expect(a.assemble(0x1000n)).toEqual(a.assemble(0x2000n));
  });

  test("refuses an unknown label by name", () => {
    expect(() => new Assembler(64).jmp("nowhere").assemble(0n)).toThrow("unknown label nowhere");
  });

  test("refuses a label defined twice", () => {
    expect(() => new Assembler(64).label("l").nop().label("l")).toThrow("label l is defined twice");
  });

  test.each<[string, 16 | 32 | 64, (a: Assembler) => unknown]>([
    ["mov rax,5", 32, (a) => a.mov("rax", 5n)],
    ["mov cl, 0x100", 32, (a) => a.mov("cl", 0x100)],
    ["add rax, 0x80000000", 64, (a) => a.add("rax", 0x8000_0000)],
    ["out 0x100, al", 16, (a) => a.out(8, 0x100)],
    ["cmp dword [eax], 0x100000000", 32, (a) => a.cmp(mem(32, { base: "eax" }), 2 ** 32)],
    ["call 0x10", 64, (a) => a.emit("Call_rel32_64", 0x10)],
  ])("refuses an instruction that cannot be encoded, by its text: %s", (text, bitness, write) => {
    const a = new Assembler(bitness);
    write(a);
    expect(() => a.assemble(0n)).toThrow(text);
  });

  test("refuses a register that has no size", () => {
    expect(() => new Assembler(64).mov("xmm0", 1)).toThrow("xmm0 is not a general register");
  });
});
