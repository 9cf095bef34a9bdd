/** Tests of `node-kvm test --or-lab` without a device: claims that the lab did not judge are not a success. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { runSuite, type SuiteOptions } from "../../../lib/cli/test.ts";
import type { LabResult } from "../../../lib/lab/machine/machine.ts";
import { ScriptedEmulator } from "../lab/machine/scripted-emulator.ts";

const guest = vi.hoisted(() => ({ result: undefined as unknown }));

vi.mock(import("../../../lib/lab/kernels/kernels.ts"), async (original) => ({
  ...(await original()),
  listKernels: async () => [{ release: "6.12", cached: true }] as never,
  fetchKernel: async () => ({ name: "6.12", release: "6.12", vmlinuz: "/k", modules: "/m" }),
}));

vi.mock(import("../../../lib/lab/campaign.ts"), async (original) => {
  const actual = await original();
  const run = async (): Promise<LabResult> => guest.result as LabResult;
  return { ...actual, runCampaign: (options) => actual.runCampaign({ ...options, run }) };
});

vi.mock(import("../../../lib/cli/lab-claims.ts"), () => ({
  claimsWith: async () => ["a: A"],
  claimsWithId: async () => ["a: A"],
  howToList: () => "",
  loadOwnClaims: () => Promise.resolve(undefined),
}));

const OPTIONS: SuiteOptions = {
  paths: [],
  pattern: undefined,
  reporter: "json",
  evidence: false,
  origin: undefined,
  requireKvm: false,
  orLab: true,
  progress: false,
  repro: undefined,
  reproAll: false,
};

const claim = (verdict: string): object => ({
  ...{ id: "a", title: "A", number: 1, duration: 1 },
  verdict,
});

/** Returns the result of a lab run in which the suite printed the given results. */
function ended(status: number, stderr: string, ...results: readonly object[]): LabResult {
  const report = { kernel: "6.12", vendor: "kvm_amd", results };
  return {
    ...{ kind: "exited", status, files: new Map(), attempts: 1, after: 1, restored: false },
    ...{ kernelLog: "", warnings: [] },
    stdout: Buffer.from(JSON.stringify(report)),
    stderr: Buffer.from(stderr),
  };
}

let said = "";
beforeEach(() => {
  said = "";
  new ScriptedEmulator("exit 1");
  vi.stubEnv("NODE_KVM_DEVICE", "/dev/nowhere");
  vi.spyOn(process.stdout, "write").mockReturnValue(true);
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    said += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

test.each<[string, LabResult, string]>([
  ["no claim", ended(0, ""), "no claim was judged (status 0)"],
  [
    "no claim, because none has the name",
    ended(1, 'node-kvm: no claim contains "x"\n'),
    'no claim was judged (status 1); stderr ends with: node-kvm: no claim contains "x"',
  ],
  ["skips alone", ended(0, "", claim("skip")), "no claim was judged, 1 were skipped (status 0)"],
  [
    "one claim, and was killed then",
    ended(137, "pass a\nKilled\n", claim("pass")),
    "the suite ended with status 137 after 1 claims, of which 0 failed; stderr ends with: Killed",
  ],
])(
  "npm start on a host without KVM fails with a reason if the suite in the lab judges %s",
  async (_, result, why) => {
    guest.result = result;
    expect(await runSuite(OPTIONS)).toBeGreaterThan(0);
    expect(said).toContain(`node-kvm: ${why}\n`);
  },
);

test("npm start on a host without KVM succeeds if the suite in the lab judges claims and ends with status 0", async () => {
  guest.result = ended(0, "pass a\n", claim("pass"));
  expect(await runSuite(OPTIONS)).toBe(0);
});
