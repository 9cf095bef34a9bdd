/** Tests of decoding ucalls from a guest's mailbox. */
import { describe, expect, test } from "vitest";
import {
  decodeCpuid,
  decodeUcall,
  FAULT_GPA,
  isUcall,
  MEMORY_SIZE,
  RESULTS_COUNT_GPA,
  RESULTS_GPA,
  SYNC_COUNT_GPA,
  UCALL_DONE,
  UCALL_FAULT,
  UCALL_PORT,
  UCALL_RESULTS,
  UCALL_SYNC,
  VALUES_GPA,
} from "../../../lib/guest/index.ts";

function memoryWith(fill: (view: DataView) => void): Uint8Array {
  const memory = new Uint8Array(MEMORY_SIZE);
  fill(new DataView(memory.buffer));
  return memory;
}

describe("decodeUcall()", () => {
  test("reads the values of a sync as u64", () => {
    const memory = memoryWith((view) => {
      view.setUint32(SYNC_COUNT_GPA, 2, true);
      view.setBigUint64(VALUES_GPA, 0xffff_ffff_ffff_ffffn, true);
      view.setBigUint64(VALUES_GPA + 8, 7n, true);
    });
    const sync = { kind: "sync", values: [0xffff_ffff_ffff_ffffn, 7n] };
    expect(decodeUcall(memory, UCALL_SYNC)).toEqual(sync);
  });

  test("reads results as u32, even from memory that is not a byte array", () => {
    const memory = memoryWith((view) => {
      view.setUint32(RESULTS_COUNT_GPA, 1, true);
      view.setUint32(RESULTS_GPA, 0x8000_0000, true);
    });
    const readable = { read: (gpa: number, length: number) => memory.slice(gpa, gpa + length) };
    expect(decodeUcall(readable, UCALL_RESULTS)).toEqual({ kind: "sync", values: [0x8000_0000n] });
  });

  test("reads an exception's vector and registers", () => {
    const memory = memoryWith((view) => {
      for (const [i, value] of [14n, 2n, 0x1_0004n, 0x1234_5678_9000n].entries()) {
        view.setBigUint64(FAULT_GPA + i * 8, value, true);
      }
    });
    const fault = {
      kind: "fault",
      vector: 14,
      errorCode: 2,
      rip: 0x1_0004n,
      cr2: 0x1234_5678_9000n,
    };
    expect(decodeUcall(memory, UCALL_FAULT)).toEqual(fault);
  });

  test("reads the end of a guest program", () => {
    expect(decodeUcall(new Uint8Array(0), UCALL_DONE)).toEqual({ kind: "done" });
  });

  test("rejects an unknown code and a count that is too large", () => {
    const memory = memoryWith((view) => view.setUint32(SYNC_COUNT_GPA, 481, true));
    expect(() => decodeUcall(memory, 99)).toThrow("unknown ucall code 99");
    expect(() => decodeUcall(memory, UCALL_SYNC)).toThrow("the mailbox is broken");
  });
});

test("only a write to the ucall port is a ucall", () => {
  expect(isUcall({ port: UCALL_PORT, direction: "out" })).toBe(true);
  expect(isUcall({ port: UCALL_PORT, direction: "in" })).toBe(false);
  expect(isUcall({ port: 0x3f8, direction: "out" })).toBe(false);
});

describe("decodeCpuid()", () => {
  test("pairs each input with four result values", () => {
    const inputs = [{ function: 0xd, index: 1 }];
    expect(decodeCpuid(inputs, [1n, 2n, 3n, 0xffff_ffffn])).toEqual([
      { function: 0xd, index: 1, eax: 1, ebx: 2, ecx: 3, edx: 0xffff_ffff },
    ]);
  });

  test("rejects a wrong number of values", () => {
    expect(() => decodeCpuid([], [1n])).toThrow("0 inputs of CPUID but 1 values");
  });
});
