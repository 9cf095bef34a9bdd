/** Tests of a claim's evidence: the calls as text, the fields of CPUID tables that differ, and the C file. */
import { Cpuid2, encode, KVM_GET_CPUID2, KVM_SET_CPUID2 } from "node-kvm/abi";
import { describe, expect, test } from "vitest";
import { modelTable } from "../../../lib/cpuid/index.ts";
import { evidenceOf } from "../../../lib/suite/evidence.ts";
import { expect as standalone } from "../../../lib/suite/expect.ts";
import { matchers } from "../../../lib/suite/matchers.ts";
import type { IoctlStep, ObjectRef, Step } from "../../../lib/trace/index.ts";

const TABLE = modelTable("EPYC-Milan");
const CHANGED = TABLE.with({ avx2: 0, fsgsbase: 0 });
const SYS: ObjectRef = { id: 1, kind: "sys", label: "/dev/kvm" };
const VM: ObjectRef = { id: 2, kind: "vm", label: "vm" };
const VCPU: ObjectRef = { id: 3, kind: "vcpu", label: "vcpu 0" };
const OTHER: ObjectRef = { id: 4, kind: "vcpu", label: "vcpu 1" };
const OPEN: Step = { kind: "open", seq: 1, path: "/dev/kvm", result: 0, made: SYS };

const ioctl = (fd: ObjectRef, name: string, more: Partial<IoctlStep>): IoctlStep => ({
  ...{ kind: "ioctl", seq: 2, fd, request: 0, name, before: undefined, byteLength: 0 },
  ...{ links: [], result: 0, after: undefined, made: undefined },
  ...more,
});
const bytes = (table: Iterable<unknown>): Uint8Array =>
  encode(Cpuid2, { entries: Array.from(table) as never });
const set = (table: typeof TABLE, fd = VCPU, result = 0): IoctlStep =>
  ioctl(fd, "KVM_SET_CPUID2", {
    ...{ request: KVM_SET_CPUID2.request, before: bytes(table), result },
  });
/** The empty entries of a buffer. */
const room = (length: number): readonly unknown[] =>
  Array.from({ length }, () => ({ function: 0x5a5a_5a5a, eax: 0x5a5a_5a5a }));
/** A call of KVM_GET_CPUID2 with a buffer for 256 entries; `rest` are the entries after the table that KVM counts. */
const get = (table: typeof TABLE, rest: readonly unknown[] = []): IoctlStep =>
  ioctl(VCPU, "KVM_GET_CPUID2", {
    ...{ request: KVM_GET_CPUID2.request, before: bytes(room(256)) },
    after: bytes([...table, ...rest]),
  });
const CREATED: readonly Step[] = [
  OPEN,
  ioctl(SYS, "KVM_CREATE_VM", { request: 0xae01, before: 0n, made: VM }),
  ioctl(VM, "KVM_CREATE_VCPU", { request: 0xae41, before: 0n, made: VCPU }),
];
const CLOSED: Step = { kind: "close", seq: 9, fd: VCPU };

const REFUSED = new Error("expected KVM to accept, but: KVM_SET_CPUID2 (vcpu 0): EINVAL");
const evidence = (steps: readonly Step[], failure: Error | undefined) =>
  evidenceOf({ about: {}, steps }, failure);

/** Returns the error of a failed comparison. */
function comparison(run: () => void): Error {
  try {
    run();
  } catch (error) {
    return error as Error;
  }
  throw new Error("the comparison did not fail");
}

const FIELDS = [
  { name: "0x7.0:ebx[0] fsgsbase", before: "1", after: "0" },
  { name: "0x7.0:ebx[5] avx2", before: "1", after: "0" },
];

describe("the tables of the evidence", () => {
  test.each([
    ["vitest's expect", expect],
    ["the bundled expect", standalone as unknown as typeof expect],
  ])("are those of a failed toEqualTable of %s", (_, expecting) => {
    expecting.extend(matchers);
    const failure = comparison(() => expecting(CHANGED).toEqualTable(TABLE));
    expect(evidence(CREATED, failure).tables).toEqual({
      ...{ before: "expected", after: "got", fields: FIELDS, more: 0 },
    });
  });

  test("are those of a failed toEqual of two entries", () => {
    const [entry, changed] = [TABLE, CHANGED].map((table) => table.find(7, 0));
    const failure = comparison(() => expect(changed).toEqual(entry));
    expect(evidence(CREATED, failure).tables?.fields).toEqual(FIELDS);
  });

  test.each([
    ["accepted by an earlier KVM_SET_CPUID2", set(TABLE)],
    ["returned by an earlier KVM_GET_CPUID2", get(TABLE)],
    ["returned without its count (Linux before 6.5)", get(TABLE, room(256 - TABLE.length))],
  ])("compare the table of the last call with the vCPU's table, %s", (_, stored) => {
    const steps = [...CREATED, stored, set(CHANGED, OTHER), set(CHANGED, VCPU, -22), CLOSED];
    expect(evidence(steps, REFUSED).tables).toEqual({
      ...{ before: "the vCPU's table", after: "passed", fields: FIELDS, more: 0 },
    });
  });

  test("are equal if KVM refuses the vCPU's own table", () => {
    const steps = [...CREATED, set(TABLE), set(TABLE, VCPU, -22)];
    expect(evidence(steps, REFUSED).tables?.fields).toEqual([]);
  });

  test.each([
    ["another call is the last one", [...CREATED, set(TABLE), set(CHANGED), get(CHANGED)]],
    ["the vCPU had no table", [...CREATED, set(CHANGED, OTHER), set(CHANGED, VCPU, -22)]],
    ["there is no call", []],
  ])("are absent if %s", (_, steps) => {
    expect(evidence(steps, REFUSED)).not.toHaveProperty("tables");
  });

  test("are absent for values that are no tables", () => {
    const failure = comparison(() => expect([{ function: 1 }]).toEqual([]));
    expect(evidence(CREATED, failure)).not.toHaveProperty("tables");
  });

  test("have at most 200 differences", () => {
    const many = Array.from(TABLE, (entry) => ({
      ...entry,
      eax: ~entry.eax >>> 0,
      ebx: ~entry.ebx >>> 0,
    }));
    const failure = comparison(() => expect(many).toEqual(Array.from(TABLE)));
    const { fields = [], more = 0 } = evidence(CREATED, failure).tables ?? {};
    expect(fields).toHaveLength(200);
    expect(more).toBeGreaterThan(0);
  });
});

describe("the calls of the evidence", () => {
  test("are the last hundred, with the number of earlier calls", () => {
    const steps = [...CREATED, ...Array.from({ length: 150 }, () => set(TABLE))];
    const { calls, earlierCalls } = evidence(steps, REFUSED);
    expect([calls.length, earlierCalls]).toEqual([100, 53]);
    expect(calls.at(-1)).toBe(`KVM_SET_CPUID2(vcpu 0, nent=${TABLE.length}) = 0`);
  });

  test("are cut after 400 characters", () => {
    const { calls } = evidence([{ ...OPEN, path: "/dev/".padEnd(900, "x") }], REFUSED);
    expect(calls[0]).toHaveLength(400);
  });
});

describe("the C file of the evidence", () => {
  test("repeats the calls", () => {
    expect(evidence([...CREATED, set(TABLE)], REFUSED).c).toContain("KVM_SET_CPUID2");
  });

  test("is absent, with the reason, if the calls use an older handle", () => {
    const { c, withoutC } = evidence([set(TABLE)], REFUSED);
    expect(c).toBeUndefined();
    expect(withoutC).toContain("was created before the recording started");
  });

  test("is absent, with the reason, if it is too long", () => {
    const tables = Array.from({ length: 200 }, (_, i) =>
      set(TABLE.map((entry) => ({ ...entry, eax: (entry.eax ^ (i * 0x01010101)) >>> 0 }))),
    );
    const { c, withoutC } = evidence([...CREATED, ...tables], REFUSED);
    expect(c).toBeUndefined();
    expect(withoutC).toBe("the C file has more than 256 KiB");
  });
});
