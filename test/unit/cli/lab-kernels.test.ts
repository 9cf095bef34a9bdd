/** Tests of `node-kvm lab kernels`: the table, the totals, JSON, and downloads. */
import { afterEach, expect, test, vi } from "vitest";
import { labKernels, printKernels } from "../../../lib/cli/lab-kernels.ts";
import { LabError } from "../../../lib/lab/error.ts";
import type { KernelRow } from "../../../lib/lab/kernels/kernels.ts";
import { paint } from "../../../lib/report/text.ts";
import { FakeApt } from "../lab/archive/fake-apt.ts";

// Each test starts a dozen processes, which are slower on a loaded machine.
vi.setConfig({ testTimeout: 60_000 });

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const row = (release: string, rest: Partial<KernelRow>): KernelRow => ({
  release,
  version: "",
  linux: release.replace(/\+.*/, ""),
  suite: "trixie",
  bytes: 0,
  cached: false,
  cachedBytes: 0,
  obtainable: false,
  why: undefined,
  ...rest,
});

/** Creates a fake machine with one kernel, and runs the command there. */
function machine(): { readonly out: () => string; readonly err: () => string } {
  const apt = new FakeApt();
  apt.addKernel("6.12.9+deb13-cloud-amd64", "6.12.9-1", "trixie");
  vi.stubEnv("NODE_KVM_CACHE", apt.cache.root);
  const texts = [process.stdout, process.stderr].map((stream) => {
    const written: string[] = [];
    vi.spyOn(stream, "write").mockImplementation((text) => {
      written.push(String(text));
      return true;
    });
    return () => written.join("");
  });
  return { out: texts[0] ?? String, err: texts[1] ?? String };
}

test("node-kvm lab kernels prints the cached, available and removed kernels, then the totals", () => {
  const list = {
    rows: [
      row("6.1.9+a", {
        bytes: 26_700_000,
        cached: true,
        cachedBytes: 20_100_000,
        obtainable: true,
      }),
      row("6.12.9+b", { bytes: 34_700_000, obtainable: true }),
      row("7.0.4+c", { why: "no modules in any suite" }),
    ],
    asked: new Date("2026-11-23T07:46:12Z"),
    missing: ["bullseye: 404  Not Found"],
    trouble: new LabError("ERR_LAB_NETWORK", "no network"),
  };
  expect(printKernels(list, paint(false)).split("\n")).toEqual([
    "release   Linux   suite   download  state",
    "6.1.9+a   6.1.9   trixie   26.7 MB  cached (20.1 MB)",
    "6.12.9+b  6.12.9  trixie   34.7 MB  available",
    "7.0.4+c   7.0.4   trixie            gone [1]",
    "",
    "[1] no modules in any suite",
    "3 kernels: 1 cached (20.1 MB), 1 available, 1 gone",
    "gone: 7.0.4+c",
    "the archive was queried 2026-11-23T07:46Z",
    "missing suites: bullseye: 404  Not Found",
    "the archive could not be queried now: no network",
    "",
  ]);
});

test("the table of node-kvm lab kernels fits 80 columns with the longest names and reasons of the archive", () => {
  const rows = [
    row("6.1.0-0.deb11.48-cloud-amd64", {
      linux: "6.1.172",
      suite: "bullseye-security",
      bytes: 128_000_000,
      cached: true,
      cachedBytes: 269_400_000,
    }),
    row("6.19.14+deb13-cloud-amd64", {
      linux: "6.19.14",
      suite: "trixie-backports",
      why: "its packages are in the suite, but there are no modules in any suite",
    }),
  ];
  const list = { rows, asked: new Date("2026-11-23"), missing: [], trouble: undefined };
  const lines = printKernels(list, paint(false)).split("\n");
  expect(lines.filter((line) => line.length > 80)).toEqual([]);
  expect(lines).toContain("-cloud-amd64 is omitted at the end of releases");
});

test.each([40, 80, 200])(
  "node-kvm lab kernels lists the kernels that the archive has removed in lines of %i columns",
  (width) => {
    const releases = Array.from({ length: 20 }, (_, i) => `6.${i}.1+deb13`);
    const rows = releases.map((release) => row(`${release}-cloud-amd64`, {}));
    const list = { rows, asked: undefined, missing: [], trouble: undefined };
    const text = printKernels(list, paint(false), width);
    const below = text.slice(text.indexOf("20 kernels"));
    expect(below.split("\n").filter((line) => line.length > width)).toEqual([]);
    expect(below.replaceAll("\n  ", " ")).toContain(`gone: ${releases.join(", ")}\n`);
  },
);

test("node-kvm lab kernels downloads the named kernel, then lists it as cached", async () => {
  const { out, err } = machine();
  expect(await labKernels({ fetch: ["6.12"] })).toBe(0);
  expect(err()).toBe("6.12: 6.12.9+deb13-cloud-amd64 is in the cache\n");
  expect(out()).toMatch(/^6\.12\.9\+deb13 .* cached \(.* MB\)$/m);
});

test("node-kvm lab kernels --json prints every row", async () => {
  const { out } = machine();
  await labKernels({ json: true });
  const document: unknown = JSON.parse(out());
  expect(document).toMatchObject({
    asked: expect.stringMatching(/Z$/),
    missing: [],
    kernels: [{ release: "6.12.9+deb13-cloud-amd64", cached: false, obtainable: true }],
  });
});

test("node-kvm lab kernels fails for an unknown kernel name, with the catalogue's error", async () => {
  machine();
  await expect(labKernels({ fetch: ["9.9"] })).rejects.toMatchObject({
    code: "ERR_LAB_UNKNOWN_KERNEL",
  });
});
