/** Tests of the catalogue: combining packages into kernels, and finding the kernel for a name. */
import { describe, expect, test } from "vitest";
import type { Package } from "../../../../lib/lab/archive/archive.ts";
import { kernelsOf, resolveKernel } from "../../../../lib/lab/kernels/catalogue.ts";
import { compareVersions, linuxVersion } from "../../../../lib/lab/kernels/version.ts";

const of = (name: string, version: string, bytes = 30_000_000): Package => ({
  name: `linux-${name}-cloud-amd64`,
  version,
  suite: "trixie",
  bytes,
  unpacked: 0,
  sha256: "",
});

const META = 2000;

describe("kernelsOf(), which combines the archive's packages into kernels,", () => {
  test("makes a kernel from one complete package", () => {
    const image = of("image-6.1.0-56", "6.1.192-2");
    expect(kernelsOf([image])).toEqual([
      {
        release: "6.1.0-56-cloud-amd64",
        version: "6.1.192-2",
        suite: "trixie",
        packages: [image],
        why: undefined,
      },
    ]);
  });

  test("makes a kernel from one package with vmlinuz and one package with modules", () => {
    const [binary, modules] = [of("binary-7.2.6", "7.2.6-1"), of("modules-7.2.6", "7.2.6-1")];
    const [kernel, ...others] = kernelsOf([of("image-7.2.6", "7.2.6-1", META), modules, binary]);
    expect(kernel).toMatchObject({ release: "7.2.6-cloud-amd64", packages: [binary, modules] });
    expect(others).toEqual([]);
  });

  test("lists a kernel without modules, with the reason", () => {
    expect(kernelsOf([of("image-7.0.4", "7.0.4-1", META), of("binary-7.0.4", "7.0.4-1")])).toEqual([
      expect.objectContaining({
        release: "7.0.4-cloud-amd64",
        packages: [],
        why: "no modules in any suite",
      }),
    ]);
  });

  test("does not combine a kernel with modules of another version", () => {
    const packages = [of("binary-7.3", "7.3~rc7-1"), of("modules-7.3", "7.3~rc6-1")];
    expect(kernelsOf(packages)).toEqual([
      expect.objectContaining({ packages: [], why: expect.stringContaining("7.3~rc6-1") }),
    ]);
  });

  test("ignores a package that only depends on a kernel", () => {
    expect(kernelsOf([of("image-6.12", "6.12.117-1", META)])).toEqual([]);
  });

  test("uses the newest package version of a kernel release", () => {
    const packages = [of("image-6.1.0-47", "6.1.170-3"), of("image-6.1.0-47", "6.1.170-10")];
    expect(kernelsOf(packages).map(({ version }) => version)).toEqual(["6.1.170-10"]);
  });

  test("sorts by the kernel's version", () => {
    const versions = ["7.3.4-1", "6.12.9-1", "7.3~rc7-1", "6.12.43-1", "6.1.192-2"];
    const packages = versions.map((version, i) => of(`image-${i}`, version));
    expect(kernelsOf(packages).map(({ version }) => version)).toEqual([
      "6.1.192-2",
      "6.12.9-1",
      "6.12.43-1",
      "7.3~rc7-1",
      "7.3.4-1",
    ]);
  });
});

describe("resolveKernel(), which selects a kernel by name,", () => {
  const KERNELS = [
    ["5.10.0-46-cloud-amd64", "5.10.251-1"],
    ["6.1.0-56-cloud-amd64", "6.1.192-2"],
    ["6.12.43+deb12-cloud-amd64", "6.12.43-1~bpo12+1"],
    ["6.12.90+deb12-cloud-amd64", "6.12.90-1~bpo12+1"],
    ["6.12.90+deb12.1-cloud-amd64", "6.12.90-2~bpo12+1"],
    ["6.12.90+deb13.1-cloud-amd64", "6.12.90-2"],
    ["6.19.6+deb13-cloud-amd64", "6.19.6-2~bpo13+1"],
    ["7.2.6+deb13-cloud-amd64", "7.2.6-1~bpo13+1"],
    ["7.2.13+deb14-cloud-amd64", "7.2.13-1"],
    ["7.3-cloud-amd64", "7.3~rc7-1~exp1"],
    ["7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"],
    ["7.4-cloud-amd64", "7.4~rc1-1~exp1"],
  ].map(([release = "", version = ""]) => {
    const isGone = /^(6\.19|7\.2\.13)/.test(release);
    return { release, version, obtainable: !isGone, why: isGone ? "no modules" : undefined };
  });

  test.each([
    ["6.1.0-56-cloud-amd64", "6.1.0-56-cloud-amd64"],
    ["6.1.0-56", "6.1.0-56-cloud-amd64"],
    ["6.1", "6.1.0-56-cloud-amd64"],
    ["6.1.192", "6.1.0-56-cloud-amd64"],
    ["6.12", "6.12.90+deb13.1-cloud-amd64"],
    ["6.12.90", "6.12.90+deb13.1-cloud-amd64"],
    ["6.12.90+deb12", "6.12.90+deb12-cloud-amd64"],
    ["6.12.43", "6.12.43+deb12-cloud-amd64"],
    ["7.2", "7.2.6+deb13-cloud-amd64"],
    ["7.3", "7.3.4+deb13-cloud-amd64"],
    ["7.4", "7.4-cloud-amd64"],
    ["7.3-cloud-amd64", "7.3-cloud-amd64"],
    ["7.3-rc7", "7.3-cloud-amd64"],
  ])("resolves %s to %s", (name, release) => {
    expect(resolveKernel(name, KERNELS).release).toBe(release);
  });

  test.each([
    ["6.12.9", "the nearest kernels are 6.1.0-56-cloud-amd64 and 6.12.43+deb12-cloud-amd64"],
    ["4.19", "the nearest kernels are 5.10.0-46-cloud-amd64"],
    ["9.0", "the nearest kernels are 7.4-cloud-amd64"],
    ["6", '"6" could be any of 6.1, 6.12, 6.19'],
    ["six", "the series are 5.10, 6.1, 6.12, 6.19, 7.2, 7.3, 7.4"],
    ["", "the series are 5.10"],
  ])("rejects the unknown name %j: %s", (name, hint) => {
    expect(() => resolveKernel(name, KERNELS)).toThrow(
      expect.objectContaining({
        code: "ERR_LAB_UNKNOWN_KERNEL",
        message: expect.stringMatching(new RegExp(`${literally(hint)}.*node-kvm lab kernels`)),
      }),
    );
  });

  test.each(["6.19", "6.19.6", "6.19.6+deb13"])("reports why %s is not available", (name) => {
    expect(() => resolveKernel(name, KERNELS)).toThrow(
      expect.objectContaining({
        code: "ERR_LAB_GONE",
        message:
          "6.19.6+deb13-cloud-amd64 is not available: no modules; " +
          "the nearest kernels are 6.12.90+deb13.1-cloud-amd64 and 7.2.6+deb13-cloud-amd64",
      }),
    );
  });

  const literally = (text: string): string => text.replaceAll(/[.+]/g, "\\$&");
});

describe("compareVersions() for package versions", () => {
  test.each([
    ["6.9", "6.12"],
    ["6.12.43-1~bpo12+1", "6.12.43-1"],
    ["7.3~rc7-1~exp1", "7.3-1"],
    ["7.3~rc7-1", "7.3~rc10-1"],
    ["1.0", "1.0+b1"],
    ["1.0a", "1.0+b1"],
    ["9.0", "1:1.0"],
    ["1.0-1", "1.0-1.1"],
    ["1.0", "1.0-1"],
  ])("orders %s before %s, as dpkg does", (older, newer) => {
    expect(compareVersions(older, newer)).toBeLessThan(0);
    expect(compareVersions(newer, older)).toBeGreaterThan(0);
  });

  test.each(["6.12.43-1~bpo12+1", "7.3~rc7", ""])("considers %j equal to itself", (version) => {
    expect(compareVersions(version, version)).toBe(0);
  });
});

test.each([
  ["6.12.43-1~bpo12+1", "6.12.43"],
  ["7.3~rc7-1~exp1", "7.3-rc7"],
  ["5.10.223-1", "5.10.223"],
])("the package version %s is of Linux %s", (version, linux) => {
  expect(linuxVersion(version)).toBe(linux);
});
