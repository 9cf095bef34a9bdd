/** Tests of rejected values: the error names the member and the expected value. */

import { describe, expect, test } from "vitest";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { encode, type Layout, read, sizeOf, write } from "../../../lib/abi/struct.ts";
import { CpuidTable } from "../../../lib/cpuid/index.ts";

/** Values that TypeScript rejects but JavaScript code may pass. */
const wrong: readonly (readonly [Layout, unknown, Error])[] = [
  [structs.Regs, { raxx: 1n }, new TypeError('kvm_regs has no field "raxx"; did you mean "rax"?')],
  [
    structs.Sregs,
    { cs: { bas: 1n } },
    new TypeError('kvm_sregs.cs has no field "bas"; did you mean "base"?'),
  ],
  [
    structs.MpState,
    { toString: 1n },
    new TypeError('kvm_mp_state has no field "toString"; known are mpState'),
  ],
  [
    structs.Regs,
    { rip: 2n ** 64n },
    new RangeError("kvm_regs.rip: 18446744073709551616 does not fit u64"),
  ],
  [structs.Regs, { rip: -1n }, new RangeError("kvm_regs.rip: -1 does not fit u64")],
  [
    structs.Regs,
    { rip: 2 ** 60 },
    new RangeError(
      "kvm_regs.rip: 1152921504606847000 is above 2^53 and may have lost bits; write it as a bigint (u64)",
    ),
  ],
  [structs.Regs, { rip: 0.5 }, new RangeError("kvm_regs.rip: 0.5 is not an integer (u64)")],
  [structs.Regs, { rip: -1 }, new RangeError("kvm_regs.rip: -1 does not fit u64")],
  [
    structs.Sregs,
    { cs: { base: "1" } },
    new TypeError('kvm_sregs.cs.base: expected a bigint or a number (u64), got string "1"'),
  ],
  [
    structs.MpState,
    { mpState: 3n },
    new TypeError("kvm_mp_state.mpState: expected a number (u32), got bigint 3n; write 3"),
  ],
  [
    structs.MpState,
    { mpState: "3" },
    new TypeError('kvm_mp_state.mpState: expected a number (u32), got string "3"'),
  ],
  [
    structs.MpState,
    { mpState: null },
    new TypeError("kvm_mp_state.mpState: expected a number (u32), got null"),
  ],
  [
    structs.MpState,
    { mpState: 1.5 },
    new RangeError("kvm_mp_state.mpState: 1.5 is not an integer (u32)"),
  ],
  [structs.MpState, { mpState: -1 }, new RangeError("kvm_mp_state.mpState: -1 does not fit u32")],
  [
    structs.IrqLevel,
    { status: 2 ** 31 },
    new RangeError("kvm_irq_level.status: 2147483648 does not fit s32"),
  ],
  [
    structs.IoapicStateRedirtblFields,
    { deliveryMode: 8 },
    new RangeError("kvm_ioapic_state.redirtbl.fields.deliveryMode: 8 does not fit 3 bits of u8"),
  ],
  [
    structs.Sregs,
    { interruptBitmap: [0n, 0n, 0n, 0n, 0n] },
    new RangeError("kvm_sregs.interruptBitmap: 5 elements do not fit u64[4]"),
  ],
  [
    structs.Sregs,
    { interruptBitmap: [0n, true] },
    new TypeError("kvm_sregs.interruptBitmap[1]: expected a bigint or a number (u64), got boolean"),
  ],
  [
    structs.Sregs,
    { interruptBitmap: new BigUint64Array(4) },
    new TypeError("kvm_sregs.interruptBitmap: expected an array of u64, got BigUint64Array"),
  ],
  [
    structs.EnableCap,
    { pad: [0, 0] },
    new TypeError("kvm_enable_cap.pad: expected a Uint8Array, got Array"),
  ],
  [
    structs.EnableCap,
    { pad: new Uint8Array(65) },
    new RangeError("kvm_enable_cap.pad: 65 elements do not fit u8[64]"),
  ],
  [
    structs.Fpu,
    { xmm: [new Uint8Array(17)] },
    new RangeError("kvm_fpu.xmm[0]: 17 elements do not fit u8[16]"),
  ],
  [structs.Sregs, { cs: 5 }, new TypeError("kvm_sregs.cs: expected an object, got number 5")],
  [
    structs.Cpuid2,
    CpuidTable.from([{ function: 1 }]),
    new TypeError("kvm_cpuid2: expected an object, got CpuidTable"),
  ],
  [structs.Regs, new Map([["rip", 1n]]), new TypeError("kvm_regs: expected an object, got Map")],
  [structs.Sregs, { cs: [] }, new TypeError("kvm_sregs.cs: expected an object, got Array")],
  [structs.Regs, null, new TypeError("kvm_regs: expected an object, got null")],
  [
    structs.Cpuid2,
    { entries: [{}, { eax: -1 }] },
    new RangeError("kvm_cpuid2.entries[1].eax: -1 does not fit u32"),
  ],
  [
    structs.Cpuid2,
    { entries: { function: 1 } },
    new TypeError("kvm_cpuid2.entries: expected an array of kvm_cpuid_entry2, got Object"),
  ],
];

describe("the message that rejects a value", () => {
  test.each(wrong.map(([layout, value, error]) => [error.message, layout, value, error] as const))(
    "names the faulty member: %s",
    (_, layout, value, error) => {
      const encoding = () => encode(layout, value as object);
      expect(encoding).toThrow(error);
      expect(encoding).toThrow(error.constructor as typeof TypeError);
    },
  );

  test("states that the bytes are too few for the struct", () => {
    const error = new RangeError("kvm_regs: takes 144 bytes at offset 8, got 144 bytes");
    expect(() => read(structs.Regs, new Uint8Array(144), 8)).toThrow(error);
    expect(() => write(structs.Regs, {}, new Uint8Array(144), 8)).toThrow(error);
  });

  test("states that the count needs more bytes than the caller passed", () => {
    const bytes = new Uint8Array(sizeOf(structs.Cpuid2, 2));
    write(structs.Cpuid2, { nent: 300 }, bytes);
    expect(() => read(structs.Cpuid2, bytes)).toThrow(
      new RangeError("kvm_cpuid2.nent: 300 entries of 40 bytes each, but there is room for 2"),
    );
  });

  test("states that the tail is longer than the bytes that the caller passed", () => {
    const value = { entries: [{ function: 1 }] };
    expect(() => write(structs.Cpuid2, value, new Uint8Array(8))).toThrow(
      new RangeError("kvm_cpuid2: takes 48 bytes at offset 0, got 8 bytes"),
    );
  });
});
