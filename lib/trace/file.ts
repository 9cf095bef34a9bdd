/** The stream of all steps as a file: `NODE_KVM_TRACE=file.ndjson`. What a line holds is ndjson.ts. */
import { subscribe } from "node:diagnostics_channel";
import { appendFileSync } from "node:fs";
import { toNdjson } from "./ndjson.ts";
import type { Step } from "./record.ts";
import { TRACE_CHANNEL } from "./sink.ts";

/** Appends every step from now on to a file, before the call returns to its caller. */
export function traceToFile(path: string): void {
  subscribe(TRACE_CHANNEL, (step) => appendFileSync(path, `${toNdjson(step as Step)}\n`));
}

const wanted = process.env["NODE_KVM_TRACE"];
if (wanted !== undefined && wanted !== "") traceToFile(wanted);
