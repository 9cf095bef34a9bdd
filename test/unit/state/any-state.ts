/** Creates arbitrary saved states for property tests, and a fixed state, from the table of parts. */
import fc from "fast-check";
import {
  type ClockData,
  NestedState,
  type PicState,
  type Xcrs,
} from "../../../lib/abi/generated/structs.ts";
import { encode, type FieldType, type Layout, read, type Scalar } from "../../../lib/abi/struct.ts";
import type { StateDocumentError } from "../../../lib/state/error.ts";
import { stateToJson } from "../../../lib/state/json.ts";
import { type Part, VCPU_PARTS, VM_PARTS } from "../../../lib/state/parts.ts";
import { mostOf, type Shape } from "../../../lib/state/shape.ts";
import type { VcpuState, VmState } from "../../../lib/state/state.ts";

function anyInteger(type: Scalar): fc.Arbitrary<unknown> {
  const width = BigInt(type.slice(1));
  const min = type.startsWith("s") ? -(2n ** (width - 1n)) : 0n;
  const max = min + 2n ** width - 1n;
  return width === 64n
    ? fc.bigInt({ min, max })
    : fc.integer({ min: Number(min), max: Number(max) });
}

/** Large arrays differ only in a few elements, because thousands of arbitrary elements are slow. */
function anyValue(type: FieldType): fc.Arbitrary<unknown> {
  if (typeof type === "string") return anyInteger(type);
  if (!("of" in type)) return anyStruct(type);
  const { of, count } = type;
  if (of === "u8") return anyBytes(count);
  return fc
    .array(anyValue(of), { minLength: 1, maxLength: 3 })
    .map((some) => Array.from({ length: count }, (_, i) => some[i % some.length]));
}

function anyBytes(length: number): fc.Arbitrary<Uint8Array> {
  return fc
    .uint8Array({ minLength: 1, maxLength: 9 })
    .map((some) => Uint8Array.from({ length }, (_, i) => some[i % some.length] ?? 0));
}

function anyStruct({ fields }: Layout): fc.Arbitrary<Record<string, unknown>> {
  return fc.record(Object.fromEntries(fields.map(({ name, type }) => [name, anyValue(type)])));
}

function anyOf(shape: Shape): fc.Arbitrary<unknown> {
  switch (shape.kind) {
    case "struct":
      return anyStruct(shape.layout);
    case "list":
      return fc.array(anyStruct(shape.element), { maxLength: 5 });
    case "bytes":
      return fc.nat(100).chain((more) => anyBytes(shape.least + more));
    case "u32":
      return fc.integer({ min: 0, max: mostOf(shape) });
    default:
      throw shape satisfies never;
  }
}

/** Sets the size field of the kernel's struct, and keeps only one of the two structs of special registers. */
function consistent(vcpu: Record<string, unknown>): Record<string, unknown> {
  const { sregs, nestedState, ...others } = vcpu;
  const bytes = nestedState as Uint8Array | undefined;
  return {
    ...others,
    ...(sregs !== undefined && vcpu["sregs2"] === undefined ? { sregs } : {}),
    ...(bytes === undefined ? {} : { nestedState: sized(bytes) }),
  };
}

function sized(bytes: Uint8Array): Uint8Array {
  const header = encode(NestedState, { ...read(NestedState, bytes), size: bytes.length });
  return header.slice(0, bytes.length);
}

const anyParts = (parts: readonly Part[]): fc.Arbitrary<Record<string, unknown>> =>
  fc.record(Object.fromEntries(parts.map(({ name, shape }) => [name, anyOf(shape)])), {
    requiredKeys: [],
  });

const anyVcpus = fc
  .uniqueArray(fc.integer({ min: 0, max: 0xffff_ffff }), { maxLength: 3 })
  .chain((ids) =>
    fc.tuple(...ids.map((id) => anyParts(VCPU_PARTS).map((one) => ({ id, ...consistent(one) })))),
  );

/** An arbitrary state with any of the parts and any values. */
export const anyState: fc.Arbitrary<VmState> = fc
  .record({
    source: fc.record(
      { kernel: fc.string({ unit: "grapheme" }), vendor: fc.string() },
      { requiredKeys: ["kernel"] },
    ),
    parts: anyParts(VM_PARTS),
    vcpus: anyVcpus,
  })
  .map(({ source, parts, vcpus }) => {
    const state = { format: "node-kvm-state", version: 1, source, ...parts, vcpus };
    return state as unknown as VmState;
  });

/** Returns a value in which each byte differs from its neighbours. */
function distinct(shape: Shape): unknown {
  const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7 + 1) & 0xff);
  switch (shape.kind) {
    case "struct":
      return read(shape.layout, bytes(shape.layout.size));
    case "list":
      return [0, 3].map((skip) => read(shape.element, bytes(shape.element.size + skip), skip));
    case "bytes":
      return sized(bytes(shape.least));
    case "u32":
      return 0x0102_0304;
    default:
      throw shape satisfies never;
  }
}

const distinctParts = (parts: readonly Part[]): Record<string, unknown> =>
  Object.fromEntries(parts.map(({ name, shape }) => [name, distinct(shape)]));

/** A state with two vCPUs and every part except `sregs`. */
export const FULL = {
  format: "node-kvm-state",
  version: 1,
  source: { kernel: "6.12.95", vendor: "kvm_amd" },
  ...distinctParts(VM_PARTS),
  vcpus: [1, 0].map((id) => ({ id, ...consistent(distinctParts(VCPU_PARTS)) }) as VcpuState),
} as VmState;

/** The full state with values that a real machine can have: an MP state, a format of nested state, one XCR. */
export const SANE: VmState = {
  ...FULL,
  clock: { ...FULL.clock, clock: 7n } as ClockData,
  vcpus: FULL.vcpus.map((vcpu) => ({
    ...vcpu,
    mpState: 0,
    xcrs: { ...vcpu.xcrs, nrXcrs: 1 } as Xcrs,
    nestedState: encode(NestedState, { size: NestedState.size, format: 1, flags: 1 }),
  })),
};

/** The registers of one PIC. */
export const PIC: PicState = FULL.picMaster as PicState;

let fullText: string | undefined;

/**
 * Returns the full state as JSON.parse() returns it, with some values changed, given by paths such as
 * `"vcpus.0.regs.rip"`.
 */
export function changed(changes: Readonly<Record<string, unknown>>): unknown {
  fullText ??= stateToJson(FULL);
  const document: unknown = JSON.parse(fullText);
  for (const [path, value] of Object.entries(changes)) {
    const names = path.split(".");
    const owner = names
      .slice(0, -1)
      .reduce<object>((at, name) => Reflect.get(at, name), Object(document));
    Reflect.set(owner, names.at(-1) ?? "", value);
  }
  // JSON.stringify() omits undefined members.
  return JSON.parse(JSON.stringify(document));
}

/** Returns the error with which reading a document fails. */
export function errorOf(reads: () => unknown): StateDocumentError {
  try {
    reads();
  } catch (error) {
    return error as StateDocumentError;
  }
  throw new Error("it was read");
}

/** Returns the faults that the error about a document lists. */
export function complaintsOf(reads: () => unknown): readonly string[] {
  return errorOf(reads).complaints;
}
