/**
 * A claim: one sentence about KVM, with a check that runs on this host's device. kit.ts has a claim's tools;
 * deviations.ts has the expected failures on kernels that violate the claim; framework.ts registers claims.
 */
import { existsSync } from "node:fs";
import { release } from "node:os";
import { defaultDevice, Kvm, KvmError, vendorModule } from "../index.ts";
import { describe, quoted, refuseUnknown } from "../options.ts";
import type { Evidence } from "../report/evidence.ts";
import { type Deviation, findDeviation, refuseWrongDeviations } from "./deviations.ts";
import { registerClaim } from "./framework.ts";
import { Kit, Unmet } from "./kit.ts";
import { recordClaim } from "./reproducer.ts";

declare module "vitest" {
  interface TaskMeta {
    /** The claim's number in a catalogue of checks. */
    claim?: number;
    /** The reason for a known failure on this host. */
    deviation?: string;
    /** The path of the C file that reproduces the claim's calls. */
    reproducer?: string;
    /** The evidence of a claim that fails or deviates. */
    evidence?: Evidence;
  }
}

/** The options of a claim. */
export interface ClaimOptions {
  /**
   * The claim's number in a catalogue of checks. The number is printed with the result; several claims may have the
   * same number.
   */
  readonly number?: number;
  /** The expected failures on hosts whose KVM is known to violate the claim. */
  readonly deviations?: readonly Deviation[];
  /** The time limit of an asynchronous check in milliseconds; the runner's limit if omitted. */
  readonly timeout?: number;
}

/**
 * Checks a claim with its kit: the function throws, or returns a promise that is rejected, if the claim does not hold.
 */
export type ClaimCheck = (kit: Kit) => void | Promise<void>;

/** The form of a claim's id. An id must be valid in reports, in the lab's progress output and in file names. */
const ID = /^[\w-]{1,80}$/;

/**
 * Defines a claim. The claim's check gets a new kit, whose handles are closed after the check.
 *
 * The claim is skipped, with the reason, if there is no usable device or if a requirement of the kit is not met. If a
 * deviation applies to this host, the check must fail with the deviation's message; a check that succeeds is reported
 * as a failure.
 *
 * ```ts
 * import { claim, expect } from "node-kvm/test";
 *
 * claim("resend", "a vCPU that has run accepts the table that KVM_GET_CPUID2 returns", (kit) => {
 *   const { vcpu } = kit.ran();
 *   expect(() => vcpu.setCpuid2(vcpu.getCpuid2())).toBeAccepted();
 * });
 * ```
 *
 * @param id - a short name, unique among the claims that run together: letters, digits, `-` and `_`.
 * @param sentence - the claim as a sentence in one line, with KVM or a vCPU as its subject.
 * @throws TypeError if an argument has a wrong type or form.
 * @throws Error outside of vitest if no runner of node-kvm has loaded the file, or if another claim has the same id.
 */
export function claim(id: string, sentence: string, check: ClaimCheck): void;
export function claim(id: string, sentence: string, options: ClaimOptions, check: ClaimCheck): void;
export function claim(
  id: string,
  sentence: string,
  ...rest: readonly [ClaimCheck] | readonly [ClaimOptions, ClaimCheck]
): void {
  const [options, check] = rest.length === 2 ? rest : [{}, rest[0]];
  refuseWrong(id, sentence, options, check);
  const { number, deviations = [], timeout } = options;
  const meta = number === undefined ? {} : { claim: number };
  registerClaim(id, sentence, { meta, timeout }, async ({ task, skip }) => {
    const problem = deviceProblem();
    if (problem !== undefined) skip(problem);
    const recording = recordClaim();
    const failure = await outcome(check);
    recording.stop();
    const expected = findDeviation(id, deviations);
    const { file, evidence } = recording.end({
      ...{ number, id, sentence, failure },
      expected: expected?.reason,
    });
    if (file !== undefined) task.meta["reproducer"] = file;
    if (evidence !== undefined) task.meta["evidence"] = evidence;
    if (failure instanceof Unmet) skip(failure.message);
    if (expected === undefined) {
      if (failure !== undefined) throw failure;
      return;
    }
    assertDeviates(id, expected, failure);
    task.meta["deviation"] = expected.reason;
  });
}

const WHERE = "claim()";
/** The longest time of a timer in Node. */
const LONGEST_MS = 2 ** 31 - 1;

function refuseWrong(id: unknown, sentence: unknown, options: unknown, check: unknown): void {
  if (typeof id !== "string" || !ID.test(id)) {
    const form = "letters, digits, - and _, at most 80";
    throw new TypeError(`${WHERE}: id must be a short name (${form}), got ${describe(id)}`);
  }
  const where = `claim(${quoted(id)})`;
  if (typeof sentence !== "string" || !/^\S.*$/.test(sentence)) {
    throw new TypeError(`${where}: sentence must be one line of text, got ${describe(sentence)}`);
  }
  refuseUnknown(where, options, ["number", "deviations", "timeout"]);
  const { number, deviations, timeout } = options as ClaimOptions;
  if (number !== undefined && !(Number.isSafeInteger(number) && number >= 0)) {
    throw new TypeError(`${where}: number must be a whole number, got ${describe(number)}`);
  }
  const isTime = typeof timeout === "number" && timeout > 0 && timeout <= LONGEST_MS;
  if (timeout !== undefined && !isTime) {
    throw new TypeError(
      `${where}: timeout must be milliseconds from 1 to ${LONGEST_MS}, got ${describe(timeout)}`,
    );
  }
  if (deviations !== undefined) refuseWrongDeviations(`${where}: deviations`, deviations);
  if (typeof check !== "function") {
    throw new TypeError(`${where}: check must be a function, got ${describe(check)}`);
  }
}

async function outcome(check: ClaimCheck): Promise<Error | undefined> {
  const kit = new Kit();
  try {
    await check(kit);
    return undefined;
  } catch (failure) {
    return failure instanceof Error ? failure : new Error(String(failure));
  } finally {
    kit.close();
  }
}

function assertDeviates(id: string, expected: Deviation, failure: Error | undefined): void {
  if (failure === undefined) {
    throw new Error(
      `${id} holds here (${vendorModule()}, Linux ${release()}): the known deviation ` +
        `does not apply any more; remove it (${expected.reason})`,
    );
  }
  if (!failure.message.includes(expected.shows)) throw failure;
}

let problem: string | undefined;

/**
 * Returns the reason why this host's device cannot be used; undefined if it can be used. The device is opened once per
 * process.
 */
export function deviceProblem(): string | undefined {
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
