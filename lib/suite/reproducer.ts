/**
 * Writes C files that reproduce claims: with `NODE_KVM_REPRO=folder`, a C file for each failed claim is written to this
 * folder; with `NODE_KVM_REPRO_ALL=1` in addition, a C file for each judged claim. `node-kvm/trace` generates the
 * content of the files.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { types } from "node:util";
import type { Ioctl } from "../abi/index.ts";
import { type Handle, type IoctlArgument, vendorModule } from "../index.ts";
import { exportC, type IoctlStep, type Recording, record, type Step } from "../trace/index.ts";
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

/** The recording of the calls that one claim makes. */
export interface ClaimRecording {
  /** Ends the recording. If a C file is required, writes the file and returns its path. */
  end(judged: Judged): string | undefined;
}

let current: Recording | undefined;

/** Starts the recording of a claim, if C files are required. */
export function recordClaim(): ClaimRecording {
  const folder = process.env["NODE_KVM_REPRO"];
  if (folder === undefined || folder === "") return { end: () => undefined };
  const recording = record();
  current = recording;
  return {
    end: (judged) => {
      current = undefined;
      return write(folder, recording, judged);
    },
  };
}

function write(folder: string, recording: Recording, judged: Judged): string | undefined {
  const { number, id, sentence, failure, expected } = judged;
  const trace = recording.stop({
    number,
    name: id,
    sentence,
    verdict: failure === undefined ? "holds" : "fails",
    reason: reason(failure, expected),
    kernel: release(),
    vendor: vendorModule(),
    cpu: cpus()[0]?.model,
  });
  const isWanted = failure !== undefined || process.env["NODE_KVM_REPRO_ALL"] === "1";
  // A skipped claim has no verdict that another kernel could confirm.
  if (!isWanted || failure instanceof Unmet) return undefined;
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${number === undefined ? "" : `${number}-`}${id}.c`);
  writeFileSync(path, exportC(trace));
  return path;
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
