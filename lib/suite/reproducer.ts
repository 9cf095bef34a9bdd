/**
 * Records the calls of claims. With `NODE_KVM_REPRO=folder`, a C file for each failed claim is written to this folder;
 * with `NODE_KVM_REPRO_ALL=1` in addition, a C file for each judged claim. `NODE_KVM_REPRO_STYLE=selftest` selects the
 * idiom of the kernel's selftests. With `NODE_KVM_EVIDENCE=1`, the result of
 * each claim that fails or deviates has its evidence (evidence.ts). `node-kvm/trace` generates the content of the files.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { types } from "node:util";
import type { Ioctl } from "../abi/index.ts";
import { type Handle, type IoctlArgument, vendorModule } from "../index.ts";
import type { Evidence } from "../report/evidence.ts";
import {
  type CStyle,
  exportC,
  type IoctlStep,
  type Recording,
  record,
  type Step,
  type Trace,
} from "../trace/index.ts";
import { evidenceOf } from "./evidence.ts";
import { Unmet } from "./kit.ts";

/** A claim that was judged. */
export interface Judged {
  readonly number: number | undefined;
  readonly id: string;
  readonly sentence: string;
  /** The error that the claim's check threw; `undefined` if the claim holds. */
  readonly failure: Error | undefined;
  /** The reason for a known failure on this host. */
  readonly expected: string | undefined;
}

/** The products of a recording. */
export interface Recorded {
  /** The path of the C file, if it was written. */
  readonly file?: string;
  /** The evidence, if it is collected and the claim does not hold as expected. */
  readonly evidence?: Evidence;
}

/** The recording of the calls that one claim makes. */
export interface ClaimRecording {
  /** Stops the recording, so that it does not contain the calls that probe the host's traits. */
  stop(): void;
  /** Writes the C file and collects the evidence, if they are required. */
  end(judged: Judged): Recorded;
}

let current: Recording | undefined;

/** Starts the recording of a claim, if C files or evidence are required. */
export function recordClaim(): ClaimRecording {
  const folder = process.env["NODE_KVM_REPRO"] ?? "";
  const wantsEvidence = process.env["NODE_KVM_EVIDENCE"] === "1";
  if (folder === "" && !wantsEvidence) return { stop: () => undefined, end: () => ({}) };
  // A claim that did not end within its time limit is still recorded.
  current?.stop();
  const recording = record();
  current = recording;
  const stop = (): void => {
    recording.stop();
    if (current === recording) current = undefined;
  };
  return {
    stop,
    end: (judged) => {
      stop();
      const { failure, expected } = judged;
      // A skipped claim has no verdict that another kernel could confirm.
      if (failure instanceof Unmet) return {};
      const trace = recording.stop(aboutOf(judged));
      const file = folder === "" ? undefined : write(folder, trace, judged);
      const isUnexpected = failure !== undefined || expected !== undefined;
      return {
        ...(file === undefined ? {} : { file }),
        ...(wantsEvidence && isUnexpected ? { evidence: evidenceOf(trace, failure) } : {}),
      };
    },
  };
}

function aboutOf({ number, id, sentence, failure, expected }: Judged): Trace["about"] {
  return {
    number,
    name: id,
    sentence,
    verdict: failure === undefined ? "holds" : "fails",
    reason: reason(failure, expected),
    kernel: release(),
    vendor: vendorModule(),
    cpu: cpus()[0]?.model,
  };
}

function write(folder: string, trace: Trace, { number, id, failure }: Judged): string | undefined {
  if (failure === undefined && process.env["NODE_KVM_REPRO_ALL"] !== "1") return undefined;
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${number === undefined ? "" : `${number}-`}${id}.c`);
  writeFileSync(path, exportC(trace, { style: styleOf(process.env["NODE_KVM_REPRO_STYLE"]) }));
  return path;
}

function styleOf(name: string | undefined): CStyle {
  return name === "selftest" ? name : "program";
}

function reason(failure: Error | undefined, expected: string | undefined): string {
  const fault = process.env["NODE_KVM_FAULT"];
  const note =
    fault === undefined
      ? ""
      : `A fault was injected (${fault}): the expected values contain its results.\n`;
  if (failure === undefined) return note;
  return `${note}${failure.message}${expected === undefined ? "" : `\nKnown: ${expected}`}`;
}

/**
 * Returns the number of recorded steps. With this number, faults.ts finds the step of a later call, and replaces the
 * result of the step.
 */
export function stepCount(): number {
  return current?.steps.length ?? 0;
}

/**
 * Replaces the kernel's result in the recording by the result that an injected fault returned to the claim. The C file
 * then expects the claim's results, and reports a difference if the kernel returns other results.
 *
 * @param from - the number of recorded steps before the call.
 */
export function replaceResult(
  from: number,
  handle: Handle,
  ioctl: Ioctl,
  sent: IoctlArgument | undefined,
  result: number,
  argument: IoctlArgument | undefined,
): void {
  if (current === undefined) return;
  const steps = current.steps as Step[];
  const place = steps.findIndex(
    (step, i) => i >= from && step.kind === "ioctl" && step.request === ioctl.request,
  );
  const changedStep: IoctlStep = {
    kind: "ioctl",
    seq: 0,
    // A protected member.
    fd: Reflect.get(handle, "traced") as IoctlStep["fd"],
    request: ioctl.request,
    name: ioctl.name,
    before: sent === undefined || types.isUint8Array(sent) ? sent : BigInt(sent),
    byteLength: types.isUint8Array(sent) ? sent.length : 0,
    links: [],
    result,
    after: changed(sent, argument),
    made: undefined,
  };
  const real = steps[place];
  if (real?.kind === "ioctl") steps[place] = { ...real, result, after: changedStep.after };
  else steps.push(changedStep);
}

function changed(
  sent: IoctlArgument | undefined,
  argument: IoctlArgument | undefined,
): Uint8Array | undefined {
  if (!(types.isUint8Array(sent) && types.isUint8Array(argument))) return undefined;
  return Buffer.compare(sent, argument) === 0 ? undefined : new Uint8Array(argument);
}

/** Replaces the result of the last request for a permission by success. */
export function replacePermission(): void {
  const steps = (current?.steps ?? []) as Step[];
  const place = steps.findLastIndex((step) => step.kind === "permission");
  const request = steps[place];
  if (request?.kind === "permission") steps[place] = { ...request, result: 0 };
}

/** Inverts all bytes that the guest wrote to its memory in the last run. */
export function replaceGuestValues(): void {
  const steps = (current?.steps ?? []) as Step[];
  const place = steps.findLastIndex((step) => step.kind === "run");
  const run = steps[place];
  if (run?.kind !== "run") return;
  const guest = run.guest.map((range) => ({ ...range, bytes: range.bytes.map((byte) => ~byte) }));
  steps[place] = { ...run, guest };
}
