/**
 * Tests of kvm_cpuid2: the buffer grows while the kernel returns E2BIG, and only the entries that the kernel wrote are
 * read.
 */
import { describe, expect, test } from "vitest";
import { KVM_GET_CPUID2, KVM_GET_SUPPORTED_CPUID } from "../../../../lib/abi/generated/ioctls.ts";
import { Cpuid2, type CpuidEntry2 } from "../../../../lib/abi/generated/structs.ts";
import type { Ioctl } from "../../../../lib/abi/ioctl.ts";
import { KVM_MAX_CPUID_ENTRIES } from "../../../../lib/abi/limits.ts";
import { encode, write } from "../../../../lib/abi/struct.ts";
import { CpuidTable } from "../../../../lib/cpuid/table.ts";
import { KvmError } from "../../../../lib/errors.ts";
import { encodedOnce, getCpuid2, growCpuid2 } from "../../../../lib/kvm/calls/cpuid2.ts";
import type { Handle, IoctlArgument, IoctlOptions } from "../../../../lib/kvm/handle.ts";

const refuse = (ioctl: Ioctl, errno: number, context: IoctlOptions = {}): never => {
  throw new KvmError({
    call: ioctl.name,
    object: "fake",
    errno,
    ...(context.args === undefined ? {} : { args: context.args }),
  });
};

/**
 * A fake kernel with a table of `length` entries; `count` selects the value that the kernel writes to nent on success.
 */
class Kernel {
  readonly asked: number[] = [];
  readonly #table: readonly CpuidEntry2[];
  readonly #count: "stored" | "as sent";

  constructor(length: number, count: "stored" | "as sent" = "stored") {
    this.#table = tableOf(length);
    this.#count = count;
  }

  get handle(): Handle {
    return { ioctl: this.#ioctl.bind(this) } as unknown as Handle;
  }

  #ioctl(ioctl: Ioctl, argument?: IoctlArgument, context?: IoctlOptions): number {
    const bytes = argument as Uint8Array;
    const nent = new DataView(bytes.buffer).getUint32(0, true);
    this.asked.push(nent);
    if (nent < this.#table.length) refuse(ioctl, 7, context);
    const count = this.#count === "stored" ? this.#table.length : nent;
    write(Cpuid2, { nent: count, entries: this.#table }, bytes);
    return 0;
  }
}

function tableOf(length: number): readonly CpuidEntry2[] {
  const zeros = { index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0, padding: [0, 0, 0] };
  return Array.from({ length }, (_, i) => ({ ...zeros, function: i }));
}

/** A fake kernel that fails every call with one errno. */
function always(errno: number): { handle: Handle; asked: number[] } {
  const asked: number[] = [];
  const ioctl = (request: Ioctl, argument: Uint8Array, context: IoctlOptions): never => {
    asked.push(new DataView(argument.buffer).getUint32(0, true));
    return refuse(request, errno, context);
  };
  return { handle: { ioctl } as unknown as Handle, asked };
}

const caught = (call: () => unknown): KvmError => {
  try {
    call();
  } catch (error) {
    return error as KvmError;
  }
  throw new Error("nothing was thrown");
};

describe("a CPUID list whose length the caller does not know", () => {
  test.each([
    [0, [64]],
    [64, [64]],
    [65, [64, 128]],
    [256, [64, 128, 256]],
    [1000, [64, 128, 256, 512, 1024]],
  ])("of %i entries is read with buffers for %j entries, one after the other", (length, asked) => {
    const kernel = new Kernel(length);
    expect(growCpuid2(kernel.handle, KVM_GET_SUPPORTED_CPUID)).toEqual(tableOf(length));
    expect(kernel.asked).toEqual(asked);
  });

  test("is not read again if the kernel always returns E2BIG", () => {
    const { handle, asked } = always(7);
    const error = caught(() => growCpuid2(handle, KVM_GET_SUPPORTED_CPUID));
    expect(error).toMatchObject({ code: "E2BIG", args: { nent: 8192 } });
    expect(asked).toEqual([64, 128, 256, 512, 1024, 2048, 4096, 8192]);
  });

  test.each([
    [22, "EINVAL"],
    [14, "EFAULT"],
    [25, "ENOTTY"],
  ])("is not read again after errno %i", (errno, code) => {
    const { handle, asked } = always(errno);
    expect(caught(() => growCpuid2(handle, KVM_GET_SUPPORTED_CPUID)).code).toBe(code);
    expect(asked).toEqual([64]);
  });

  test("is not read again after an exception that is not an errno", () => {
    const bug = new TypeError("a bug");
    const ioctl = (): never => {
      throw bug;
    };
    const handle = { ioctl } as unknown as Handle;
    expect(() => growCpuid2(handle, KVM_GET_SUPPORTED_CPUID)).toThrow(bug);
  });
});

describe("vcpu.getCpuid2()", () => {
  test.each([0, 1, 57, 255])(
    "reads %i entries with one call if the kernel writes nent",
    (length) => {
      const kernel = new Kernel(length);
      expect(getCpuid2(kernel.handle, KVM_GET_CPUID2, 256)).toEqual(tableOf(length));
      expect(kernel.asked).toEqual([256]);
    },
  );

  test.each([0, 1, 57, 256])(
    "reads %i entries with two calls if the kernel leaves nent unchanged (Linux 6.1)",
    (n) => {
      const kernel = new Kernel(n, "as sent");
      expect(getCpuid2(kernel.handle, KVM_GET_CPUID2, 256)).toEqual(tableOf(n));
      expect(kernel.asked).toEqual([256, 256]);
    },
  );

  test("calls the kernel again if the entries fill the buffer, because nent may be unchanged", () => {
    const kernel = new Kernel(KVM_MAX_CPUID_ENTRIES);
    expect(getCpuid2(kernel.handle, KVM_GET_CPUID2, 256)).toEqual(tableOf(256));
    expect(kernel.asked).toEqual([256, 256]);
  });

  test("returns even an entry that equals the initial content of the buffer", () => {
    const like = [0x5a5a_5a5a, 0xa5a5_a5a5].map((n) => ({
      ...{ function: n, index: n, flags: n, eax: n, ebx: n, ecx: n, edx: n },
      padding: [n, n, n],
    }));
    const ioctl = (_: Ioctl, bytes: Uint8Array): number => {
      write(Cpuid2, { nent: 9, entries: like }, bytes);
      return 0;
    };
    const handle = { ioctl } as unknown as Handle;
    expect(getCpuid2(handle, KVM_GET_CPUID2, 9)).toEqual(like);
  });

  test("returns an empty table if the vCPU has no table", () => {
    const kernel = new Kernel(0);
    expect(getCpuid2(kernel.handle, KVM_GET_CPUID2, 0)).toEqual([]);
    expect(kernel.asked).toEqual([0]);
  });

  test("fails without another call if the table is longer than the requested number of entries", () => {
    const kernel = new Kernel(3);
    const error = caught(() => getCpuid2(kernel.handle, KVM_GET_CPUID2, 2));
    expect(error).toMatchObject({ call: "KVM_GET_CPUID2", code: "E2BIG", args: { nent: 2 } });
    expect(kernel.asked).toEqual([2]);
  });
});

describe("the kvm_cpuid2 struct that setCpuid2() passes", () => {
  test("contains the count and the padding, and then 40 bytes for each entry", () => {
    const bytes = encode(Cpuid2, { entries: [{ function: 0x8000_0008, index: 1, eax: 0x30 }] });
    expect(bytes).toHaveLength(8 + 40);
    expect(Array.from(new Uint32Array(bytes.buffer))).toEqual([
      ...[1, 0],
      ...[0x8000_0008, 1, 0, 0x30, 0, 0, 0, 0, 0, 0],
    ]);
  });

  test("contains the caller's count, even if the count is wrong", () => {
    const bytes = encode(Cpuid2, { nent: 0xffff_ffff, entries: [{ function: 1 }] });
    expect([bytes.length, new DataView(bytes.buffer).getUint32(0, true)]).toEqual([
      48, 0xffff_ffff,
    ]);
  });
});

describe("the bytes of a CPUID table for setCpuid2()", () => {
  const table = CpuidTable.from([
    { function: 7, ebx: 0xffff_ffff },
    { function: 0xd, index: 1 },
  ]);

  test("are encoded once for a CpuidTable", () => {
    const first = encodedOnce(table, "setCpuid2()");
    expect(first?.bytes).toEqual(encode(Cpuid2, { entries: [...table] }));
    expect(first?.entries).toEqual([...table]);
    expect(first?.entries).toSatisfy(Object.isFrozen);
    expect(encodedOnce(table, "setCpuid2()")).toBe(first);
  });

  test("are not shared by two CpuidTable objects with equal entries", () => {
    const other = encodedOnce(CpuidTable.from(table), "setCpuid2()");
    expect(other?.bytes).not.toBe(encodedOnce(table, "setCpuid2()")?.bytes);
  });

  test("are not cached for an array or a subclass of CpuidTable, because their entries may change", () => {
    class Changing extends (CpuidTable as unknown as new (
      entries: readonly object[],
    ) => CpuidTable) {
      override *[Symbol.iterator](): ArrayIterator<CpuidEntry2> {
        yield* tableOf(1);
      }
    }
    expect(encodedOnce([...table], "setCpuid2()")).toBeUndefined();
    expect(encodedOnce(new Changing([]), "setCpuid2()")).toBeUndefined();
  });
});
