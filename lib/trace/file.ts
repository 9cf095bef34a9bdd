/** Writes all steps to a file: `NODE_KVM_TRACE=file.ndjson`. ndjson.ts formats a line. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { toNdjson } from "./ndjson.ts";
import type { Step } from "./record.ts";
import { TRACE_CHANNEL } from "./sink.ts";

/** The number of retries of a write to a full pipe, and the delay between the retries. */
const [TRIES, WAIT_MS] = [100, 10];

/**
 * Appends every following step to a file or a pipe, before the traced call returns to its caller.
 *
 * If a line cannot be written, the trace ends with a process warning `NODE_KVM_TRACE`, and the program continues.
 * Reasons are a full disk, and a pipe whose reader has exited or has read nothing for a second.
 *
 * @throws Error of open(2): `ENOENT`, `EACCES`, `ENXIO` for a pipe without a reader.
 */
export function traceToFile(path: string): void {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK } = constants;
  // Without O_NONBLOCK, opening a pipe blocks until it has a reader.
  const fd = openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o666);
  const listen = (step: unknown): void => {
    try {
      writeWhole(fd, Buffer.from(`${toNdjson(step as Step)}\n`));
    } catch (error) {
      unsubscribe(TRACE_CHANNEL, listen);
      closeSync(fd);
      warn(path, error);
    }
  };
  subscribe(TRACE_CHANNEL, listen);
}

function writeWhole(fd: number, bytes: Uint8Array): void {
  let left = TRIES;
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      left -= 1;
      if (!isFull(error) || left === 0) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS);
    }
  }
}

function isFull(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "EAGAIN";
}

function warn(path: string, error: unknown): void {
  const { message } = error as Error;
  process.emitWarning(`The trace to ${JSON.stringify(path)} has ended: ${message}`, {
    code: "NODE_KVM_TRACE",
  });
}

const wanted = process.env["NODE_KVM_TRACE"];
if (wanted !== undefined && wanted !== "") {
  try {
    traceToFile(wanted);
  } catch (error) {
    warn(wanted, error);
  }
}
