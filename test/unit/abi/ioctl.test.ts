/** Tests of the list of ioctls: every ioctl that x86 dispatches, with its number, its descriptors and its kind. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import * as ioctls from "../../../lib/abi/generated/ioctls.ts";
import { IOCTLS, KVM_CREATE_DEVICE } from "../../../lib/abi/generated/ioctls.ts";
import {
  KVM_CAPABILITIES,
  KVM_EXIT_REASONS,
  KVM_INTERNAL_ERRORS,
} from "../../../lib/abi/generated/names.ts";
import { decodeRequest, type FdKind, type Ioctl, ioctlByRequest } from "../../../lib/abi/ioctl.ts";
import type { FieldType, Layout } from "../../../lib/abi/struct.ts";

const factsOf = (name: string): string =>
  readFileSync(new URL(`../../../gen/facts/${name}`, import.meta.url), "utf8");

const rows = factsOf("kvm-ioctls.tsv")
  .trimEnd()
  .split("\n")
  .slice(1)
  .map((line) => line.split("\t") as [string, FdKind, string, string]);

const exceptions = (
  JSON.parse(factsOf("ioctl-shapes.json")) as {
    ioctls: Record<string, { kind?: string; reason: string }>;
  }
).ioctls;

const named = IOCTLS.map((ioctl) => [ioctl.name, ioctl] as const);

/** Matches names of fields that may contain addresses; a bitmap inside the struct may have such a name, too. */
const looksLikeAddress = /addr|hva|bitmap/i;

function innerLayouts(type: FieldType): readonly Layout[] {
  if (typeof type === "string") return [];
  return "of" in type ? innerLayouts(type.of) : [type];
}

function fieldNames(layout: Layout): readonly string[] {
  const tail = layout.tail ? innerLayouts(layout.tail.element) : [];
  const inner = [...layout.fields.flatMap(({ type }) => innerLayouts(type)), ...tail];
  return [...layout.fields.map(({ name }) => name), ...inner.flatMap(fieldNames)];
}

function namesOf(kind: Ioctl["kind"]): readonly string[] {
  return IOCTLS.filter((ioctl) => ioctl.kind === kind).map(({ name }) => name);
}

test("the table has 119 pairs of an ioctl and a descriptor, for 106 different ioctls", () => {
  expect([rows.length, IOCTLS.length]).toEqual([119, 106]);
  expect(new Set(IOCTLS.map(({ request }) => request)).size).toBe(106);
});

describe.each(rows)("the ioctl %s on %s", (name, fd, request, size) => {
  test("is found by its request number", () => {
    expect(ioctlByRequest(Number(request), fd)?.name).toBe(name);
  });

  test("is exported under its C name", () => {
    expect(ioctls).toHaveProperty(name, ioctlByRequest(Number(request)));
  });

  test("has a request number whose direction, type, number and size equal those in its row", () => {
    const number = Number(request) & 0xff;
    expect(decodeRequest(Number(request))).toMatchObject({
      type: 0xae,
      size: Number(size),
      number,
    });
  });

  test("names either no capability or a capability that exists", () => {
    const capabilities = [null, ...Object.keys(KVM_CAPABILITIES)];
    expect(capabilities).toContain(ioctlByRequest(Number(request))?.capability[fd]);
  });
});

describe("the kinds of an ioctl's argument", () => {
  test("the kind cannot be derived from the request number: REINJECT_CONTROL is an _IO request, but takes 32 bytes", () => {
    const { request, kind, size } = ioctls.KVM_REINJECT_CONTROL;
    expect([decodeRequest(request).size, kind, size]).toEqual([0, "plain", 32]);
  });

  test('an ioctl is "tailed" if and only if its struct counts the elements that follow', () => {
    const counted = IOCTLS.filter(({ struct }) => struct?.tail?.count !== undefined);
    expect(namesOf("tailed")).toEqual(counted.map(({ name }) => name));
  });

  test('the ioctls of nested state and XSAVE are "sized": a field or a capability defines the size of their bytes', () => {
    expect(new Set(namesOf("sized"))).toEqual(
      new Set(["KVM_GET_NESTED_STATE", "KVM_GET_XSAVE2", "KVM_SET_NESTED_STATE", "KVM_SET_XSAVE"]),
    );
  });

  test.each(named.filter(([, { kind }]) => kind === "none" || kind === "value"))(
    "the ioctl %s takes no bytes as its argument",
    (_, { size, direction, struct }) => {
      expect([size, direction, struct]).toEqual([0, "none", undefined]);
    },
  );

  test.each(named.filter(([, { kind }]) => kind !== "none" && kind !== "value"))(
    "the ioctl %s takes the bytes of its struct as its argument",
    (_, { size, direction, struct, request }) => {
      expect(size).toBe(struct?.size ?? decodeRequest(request).size);
      expect(size).toBeGreaterThan(0);
      expect(direction).not.toBe("none");
    },
  );

  const suspects = named.filter(
    ([, { struct }]) => struct && fieldNames(struct).some((name) => looksLikeAddress.test(name)),
  );

  test.each(suspects)(
    'the ioctl %s, with a struct field that has an address-like name, is "pointing" or has a stated reason',
    (name, ioctl) => {
      const isJudged = exceptions[name]?.kind === ioctl.kind && exceptions[name].reason !== "";
      expect(ioctl.kind === "pointing" || isJudged).toBe(true);
    },
  );

  test('exactly these ioctls, whose struct contains an address, are "pointing"', () => {
    expect([...namesOf("pointing")].sort((a, b) => a.localeCompare(b))).toEqual([
      "KVM_CLEAR_DIRTY_LOG",
      "KVM_ENABLE_CAP",
      "KVM_GET_DEVICE_ATTR",
      "KVM_GET_DIRTY_LOG",
      "KVM_GET_ONE_REG",
      "KVM_HAS_DEVICE_ATTR",
      "KVM_MEMORY_ENCRYPT_OP",
      "KVM_MEMORY_ENCRYPT_REG_REGION",
      "KVM_MEMORY_ENCRYPT_UNREG_REGION",
      "KVM_SET_DEVICE_ATTR",
      "KVM_SET_ONE_REG",
      "KVM_SET_USER_MEMORY_REGION",
      "KVM_SET_USER_MEMORY_REGION2",
      "KVM_X86_SET_MSR_FILTER",
      "KVM_XEN_HVM_CONFIG",
      "KVM_XEN_HVM_GET_ATTR",
      "KVM_XEN_HVM_SET_ATTR",
      "KVM_XEN_VCPU_GET_ATTR",
      "KVM_XEN_VCPU_SET_ATTR",
    ]);
  });

  test("each ioctl whose request number has a wrong direction has a reason in the table", () => {
    const lies = IOCTLS.filter((i) => decodeRequest(i.request).direction !== i.direction);
    expect(lies.map(({ name }) => name).filter((name) => !exceptions[name]?.reason)).toEqual([]);
  });

  test("four ioctls return a new descriptor, and one ioctl writes a new descriptor to its argument", () => {
    const answering = IOCTLS.filter(({ result }) => result === "fd").map(({ name }) => name);
    expect(new Set(answering)).toEqual(
      new Set(["KVM_CREATE_VM", "KVM_CREATE_VCPU", "KVM_GET_STATS_FD", "KVM_CREATE_GUEST_MEMFD"]),
    );
    expect(KVM_CREATE_DEVICE.fdOffset).toBe(4);
  });
});

describe("decoding a request", () => {
  test("a request number is decoded into its parts: KVM_SET_CPUID2", () => {
    expect(decodeRequest(0x4008ae90)).toEqual({
      direction: "in",
      size: 8,
      type: 0xae,
      number: 0x90,
    });
  });

  test("a request number with all bits set is decoded as an unsigned number", () => {
    const parts = { direction: "inout", size: 0x3fff, type: 0xff, number: 0xff };
    expect(decodeRequest(0xffff_ffff)).toEqual(parts);
  });

  test.each([-1, 2 ** 32, 1.5, Number.NaN])(
    "%d is rejected, because it is not a 32-bit request number",
    (request) => {
      expect(() => decodeRequest(request)).toThrow(RangeError);
    },
  );

  test("a request number is not found for another kind of descriptor, or if KVM does not define it", () => {
    const request = 0x4008ae90;
    expect(ioctlByRequest(request, "vm")).toBeUndefined();
    expect(ioctlByRequest(0x1234)).toBeUndefined();
  });
});

describe("the lists of KVM's constants", () => {
  test("contain every capability, sorted by number", () => {
    const numbers = Object.values(KVM_CAPABILITIES);
    expect(numbers.length).toBe(244);
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
  });

  test("contain every exit reason from 0 to the highest reason", () => {
    expect(Object.values(KVM_EXIT_REASONS)).toEqual(Array.from({ length: 44 }, (_, i) => i));
  });

  test("contain the suberrors of KVM_EXIT_INTERNAL_ERROR", () => {
    expect(Object.values(KVM_INTERNAL_ERRORS)).toEqual([1, 2, 3, 4]);
  });
});
