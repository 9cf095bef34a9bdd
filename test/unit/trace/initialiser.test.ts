/** Tests of structs as C initialisers: a compiler converts the initialiser back to the same bytes. */
import { expect, test } from "vitest";
import { IOCTLS } from "../../../lib/abi/generated/ioctls.ts";
import { Msrs, Regs, Sregs } from "../../../lib/abi/generated/structs.ts";
import { encode, type Layout } from "../../../lib/abi/struct.ts";
import { hasStruct } from "../../../lib/trace/c/headers.ts";
import { initialiser, number } from "../../../lib/trace/c/literal.ts";
import { leafBytes, leavesOf } from "../../../lib/trace/leaf.ts";
import { compile, problem, run } from "./compiler.ts";

/** Returns the same pseudorandom bytes in each run; holes between fields are zero. */
function bytesFor(layout: Layout, seed: number): Uint8Array {
  const bytes = new Uint8Array(layout.size);
  let state = seed;
  for (const leaf of leavesOf(layout)) {
    for (let i = 0; i < leafBytes(leaf); i += 1) {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      // Some unused bits next to bit fields have no name.
      bytes[leaf.offset + i] = leaf.bits === undefined ? (state >> 16) & 0xff : 0;
    }
  }
  return bytes;
}

const layouts = Array.from(
  new Map(
    IOCTLS.flatMap(({ struct }) => (struct === undefined ? [] : [[struct.name, struct] as const])),
  ).values(),
);

test("the C initialiser of every struct that all kernel headers have compiles to the same bytes", ({
  skip,
}) => {
  skip(problem !== undefined, problem);
  const blocks = layouts.flatMap((layout) =>
    [1, 2].flatMap((seed) => {
      const bytes = bytesFor(layout, seed);
      const value = initialiser(layout, bytes);
      if (value === undefined) return [];
      return [
        `{ static const struct ${layout.name} made = ${value};`,
        `static const unsigned char bytes[] = { ${Array.from(bytes).join(", ")} };`,
        `if (sizeof(made) != sizeof(bytes) || memcmp(&made, bytes, sizeof(bytes)) != 0)`,
        `puts("${layout.name} differs"); else puts("${layout.name}"); }`,
      ];
    }),
  );
  const text = [
    "#include <linux/kvm.h>",
    "#include <stdio.h>",
    "#include <string.h>",
    "int main(void) {",
    ...blocks,
    "return 0; }",
  ].join("\n");
  const { lines } = run(compile({ "structs.c": `${text}\n` }));
  expect(lines.filter((line) => line.endsWith("differs"))).toEqual([]);
  // Only a few structs have no initialiser, for reasons that headers.ts lists.
  const silent = layouts.map(({ name }) => name).filter((name) => !lines.includes(name));
  expect(silent.filter(hasStruct)).toEqual(["kvm_irqchip", "kvm_sev_cmd"]);
});

test("a C initialiser contains only members that are not zero", () => {
  expect(initialiser(Regs, encode(Regs, { rip: 0x1000n, rflags: 2n }))).toBe(
    "{ .rip = 0x1000, .rflags = 2 }",
  );
  expect(initialiser(Regs, new Uint8Array(144))).toBe("{ 0 }");
  expect(initialiser(Sregs, encode(Sregs, { cs: { limit: 0xffff, type: 11 } }))).toBe(
    "{ .cs = { .limit = 0xffff, .type = 0xb } }",
  );
});

test("nonzero bytes in a hole of a struct have no C initialiser", () => {
  // struct kvm_msrs consists of a count and padding without a hole, so a longer header would be wrong.
  const layout: Layout = { ...Msrs, fields: Msrs.fields.slice(0, 1) };
  expect(initialiser(layout, Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0))).toBeUndefined();
});

test.each([
  [0, "0"],
  [9, "9"],
  [10, "0xa"],
  [-1, "-1"],
  [2n ** 64n - 1n, "0xffffffffffffffff"],
  [-(2n ** 63n), "(-0x7fffffffffffffff - 1)"],
])("in C, %s is written as %s", (value, text) => {
  expect(number(value)).toBe(text);
});
