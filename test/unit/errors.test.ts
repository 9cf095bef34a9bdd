/** Tests of error classes: their messages, their codes, and the C names of errnos. */
import { describe, expect, test } from "vitest";
import {
  errnoName,
  KvmError,
  STATE_ERRORS,
  StateError,
  type StateErrorCode,
} from "../../lib/errors.ts";

describe("errnoName()", () => {
  test.each([
    [1, "EPERM"],
    [4, "EINTR"],
    [7, "E2BIG"],
    [14, "EFAULT"],
    [16, "EBUSY"],
    [17, "EEXIST"],
    [22, "EINVAL"],
    [25, "ENOTTY"],
    [38, "ENOSYS"],
    [95, "EOPNOTSUPP"],
    [133, "EHWPOISON"],
  ])("returns the name of %i: %s", (errno, name) => {
    expect(errnoName(errno)).toBe(name);
  });

  test.each([41, 134, 524, 3008, 4094, 4095])(
    "returns the number %i, which has no name, as text",
    (errno) => {
      expect(errnoName(errno)).toBe(`errno ${errno}`);
    },
  );
});

describe("a KvmError", () => {
  test("has the call, the object, the errno and the reason", () => {
    const error = new KvmError({
      call: "KVM_SET_CPUID2",
      object: "vcpu 0",
      errno: 22,
      args: { nent: 3 },
      reason: "the table changed after KVM_RUN: 0x7.0:ebx[5] avx2: ran with 1, got 0",
    });
    expect(error.message).toBe(
      "KVM_SET_CPUID2 (vcpu 0): EINVAL: the table changed after KVM_RUN: " +
        "0x7.0:ebx[5] avx2: ran with 1, got 0",
    );
    expect(error).toMatchObject({
      name: "KvmError",
      call: "KVM_SET_CPUID2",
      object: "vcpu 0",
      errno: 22,
      code: "EINVAL",
      args: { nent: 3 },
      reason: "the table changed after KVM_RUN: 0x7.0:ebx[5] avx2: ran with 1, got 0",
    });
  });

  test("has a message that ends with the errno if the reason is unknown", () => {
    const error = new KvmError({ call: "KVM_RUN", object: "vcpu 1", errno: 14 });
    expect(error.message).toBe("KVM_RUN (vcpu 1): EFAULT");
    expect([error.reason, error.args]).toEqual([undefined, {}]);
  });

  test("is an Error that is printed with its class name", () => {
    const error = new KvmError({ call: "open", object: "/dev/kvm", errno: 2 });
    expect(error).toBeInstanceOf(Error);
    expect(String(error)).toBe("KvmError: open (/dev/kvm): ENOENT");
  });
});

describe("a StateError", () => {
  const codes = Object.keys(STATE_ERRORS) as StateErrorCode[];

  test.each(codes)("with code %s has a message with the object and the code's text", (code) => {
    const error = new StateError(code, "vm");
    expect(error.message).toBe(`vm: ${STATE_ERRORS[code]}`);
    expect(error).toMatchObject({ name: "StateError", code });
    expect(error).not.toBeInstanceOf(KvmError);
  });

  test.each(codes)("with code %s has the properties of Node's own errors", (code) => {
    expect(code).toMatch(/^ERR_[A-Z_]+$/);
  });
});
