/**
 * Claims as C files: with NODE_KVM_REPRO=folder each failing claim leaves one there, with
 * NODE_KVM_REPRO_ALL=1 also each that holds. What is in them is `node-kvm/trace`.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { type Handle, type IoctlArgument, vendorModule } from "node-kvm";
import type { Ioctl } from "node-kvm/abi";
import { exportC, type IoctlStep, type Recording, record, type Step } from "node-kvm/trace";
import { Unmet } from "./kit.ts";

/** A claim that was judged. */
export interface Judged {
  readonly number: number;
  readonly id: string;
  readonly sentence: string;
  /** What it threw; `undefined` when it held. */
  readonly failure: unknown;
  /** Why it is known to fail here. */
  readonly expected: string | undefined;
}

/** The recording of one claim. */
export interface ClaimRecording {
  /** Ends it; writes the file, if one is wanted, and returns its path. */
  end(judged: Judged): string | undefined;
}

let current: Recording | undefined;

/** Begins to record a claim, if files are wanted. */
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
  // A claim that was skipped has no verdict that a kernel could be asked for.
  if (!isWanted || failure instanceof Unmet) return undefined;
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${number}-${id}.c`);
  writeFileSync(path, exportC(trace));
  return path;
}

function reason(failure: unknown, expected: string | undefined): string {
  const lie = process.env["NODE_KVM_LIE"];
  const told =
    lie === undefined ? "" : `The claim was told a lie (${lie}): it is in the answers.\n`;
  if (failure === undefined) return told;
  const message = failure instanceof Error ? failure.message : String(failure);
  return `${told}${message}${expected === undefined ? "" : `\nKnown: ${expected}`}`;
}

/** Where a call's answer is looked for later, when a liar (lies.ts) has changed it. */
export function stepCount(): number {
  return current?.steps.length ?? 0;
}

/**
 * Puts into the recording what the claim was answered, in place of what the kernel said. A recording
 * holds what the claim has seen, so that its file shows whether the kernel says so: with a lie, not.
 *
 * @param from - how many steps there were before the call.
 */
export function retell(
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
  const told: IoctlStep = {
    kind: "ioctl",
    seq: 0,
    // The declarations of the package leave internal members out.
    fd: Reflect.get(handle, "traced") as IoctlStep["fd"],
    request: ioctl.request,
    name: ioctl.name,
    before: sent === undefined || sent instanceof Uint8Array ? sent : BigInt(sent),
    byteLength: sent instanceof Uint8Array ? sent.length : 0,
    links: [],
    result,
    after: changed(sent, argument),
    made: undefined,
  };
  const honest = steps[place];
  if (honest?.kind === "ioctl") steps[place] = { ...honest, result, after: told.after };
  else steps.push(told);
}

function changed(
  sent: IoctlArgument | undefined,
  argument: IoctlArgument | undefined,
): Uint8Array | undefined {
  if (!(sent instanceof Uint8Array && argument instanceof Uint8Array)) return undefined;
  return Buffer.compare(sent, argument) === 0 ? undefined : argument.slice();
}

/** The same for the process's last permission: it was given. */
export function retellPermission(): void {
  const steps = (current?.steps ?? []) as Step[];
  const place = steps.findLastIndex((step) => step.kind === "permission");
  const asked = steps[place];
  if (asked?.kind === "permission") steps[place] = { ...asked, result: 0 };
}

/** The same for what the guest has seen: every value that it wrote in the last run is another. */
export function retellGuest(): void {
  const steps = (current?.steps ?? []) as Step[];
  const place = steps.findLastIndex((step) => step.kind === "run");
  const run = steps[place];
  if (run?.kind !== "run") return;
  const guest = run.guest.map((range) => ({ ...range, bytes: range.bytes.map((byte) => ~byte) }));
  steps[place] = { ...run, guest };
}
