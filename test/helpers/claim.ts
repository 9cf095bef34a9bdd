/**
 * A claim: one promise of KVM, judged on this host's device. What a claim may use is kit.ts; where
 * a kernel is known not to keep it is ../expectations.
 */
import { existsSync } from "node:fs";
import { release } from "node:os";
import { defaultDevice, Kvm, KvmError, vendorModule } from "node-kvm";
import { test } from "vitest";
import { type Deviation, deviations } from "../expectations/deviations.ts";
import { hasTrait } from "../expectations/traits.ts";
import { Kit, Unmet } from "./kit.ts";
import { recordClaim } from "./reproducer.ts";

declare module "vitest" {
  interface TaskMeta {
    /** The claim's number in the catalogue of checks. */
    claim?: number;
    /** Why it does not hold here, when that is known. */
    deviation?: string;
    /** The C file that asks the kernel the same. */
    reproducer?: string;
  }
}

/**
 * Judges one claim in a kit of its own, which is closed afterwards.
 *
 * It is skipped, with the reason, when there is no device or a requirement is not met. Where a
 * deviation is expected, the claim must fail in just that way: one that holds again is an error.
 *
 * @param number - the catalogue's number; several claims may share one.
 * @param id - a short name, unique in the suite.
 * @param sentence - the claim, with KVM or a vCPU as subject.
 */
export function claim(
  number: number,
  id: string,
  sentence: string,
  judge: (kit: Kit) => void,
): void {
  test(`${id}: ${sentence}`, { meta: { claim: number } }, ({ task, skip }) => {
    const problem = deviceProblem();
    if (problem !== undefined) skip(problem);
    const recording = recordClaim();
    const failure = outcome(judge);
    const expected = deviations.find((deviation) => applies(deviation, id));
    const file = recording.end({ number, id, sentence, failure, expected: expected?.reason });
    if (file !== undefined) task.meta.reproducer = file;
    if (failure instanceof Unmet) skip(failure.message);
    if (expected === undefined) {
      if (failure !== undefined) throw failure;
      return;
    }
    assertDeviates(expected, failure);
    task.meta.deviation = expected.reason;
  });
}

function outcome(judge: (kit: Kit) => void): unknown {
  const kit = new Kit();
  try {
    judge(kit);
    return undefined;
  } catch (failure) {
    return failure;
  } finally {
    kit.close();
  }
}

function applies(deviation: Deviation, id: string): boolean {
  if (deviation.claim !== id) return false;
  using kvm = Kvm.open();
  return hasTrait(kvm, deviation.on);
}

function assertDeviates(expected: Deviation, failure: unknown): void {
  if (failure === undefined) {
    throw new Error(
      `${expected.claim} holds here (${vendorModule()}, Linux ${release()}): the known deviation ` +
        `is no longer true; remove it from test/expectations (${expected.reason})`,
    );
  }
  const message = failure instanceof Error ? failure.message : String(failure);
  if (!message.includes(expected.shows)) throw failure;
}

let problem: string | undefined;

/** Why no claim can be judged here; asked once. */
function deviceProblem(): string | undefined {
  problem ??= tryDevice();
  return problem === "" ? undefined : problem;
}

function tryDevice(): string {
  try {
    Kvm.open().close();
    return "";
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    return existsSync(defaultDevice())
      ? `no usable KVM: ${error.message}`
      : `no KVM: ${error.message}`;
  }
}
