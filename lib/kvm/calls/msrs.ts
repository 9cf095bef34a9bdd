/** Reads and writes MSRs in batches, because KVM accepts fewer than MAX_IO_MSRS in one call. */

import { type MsrEntry, Msrs } from "../../abi/generated/structs.ts";
import type { Ioctl } from "../../abi/ioctl.ts";
import { MAX_IO_MSRS } from "../../abi/limits.ts";
import { encode, read } from "../../abi/struct.ts";
import type { StructInputWith } from "../../abi/whole.ts";
import { refuseMisfit, toList } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";

const MSRS_PER_CALL = MAX_IO_MSRS - 1;

/** Reads MSRs until KVM rejects an MSR; returns the entries that were read. */
export function getMsrs(
  handle: IoctlTarget,
  ioctl: Ioctl,
  indices: Iterable<number>,
): readonly MsrEntry[] {
  const got: MsrEntry[] = [];
  for (const batch of batches(toList("getMsrs()", indices))) {
    const bytes = encode(Msrs, { entries: batch.map((index) => ({ index })) }, "getMsrs()");
    const count = handle.ioctl(ioctl, bytes, { args: { indices: batch } });
    got.push(...read(Msrs, bytes).entries.slice(0, count));
    if (count < batch.length) break;
  }
  return got;
}

/** Writes MSRs until KVM rejects an MSR; returns the number of written MSRs. */
export function setMsrs(
  handle: IoctlTarget,
  ioctl: Ioctl,
  entries: Iterable<StructInputWith<MsrEntry, "index" | "data">>,
): number {
  const all = toList("setMsrs()", entries);
  for (const [i, entry] of all.entries()) {
    if (!isFit(entry)) refuseMisfit(`setMsrs(): [${i}]`, entry, ["index", "data"], ["reserved"]);
  }
  let taken = 0;
  for (const batch of batches(all)) {
    // Only `index` and `data` are passed, because the field `reserved` of an entry from KVM can have a value that is
    // not 0.
    const sent = batch.map(({ index, data }) => ({ index, data }));
    const bytes = encode(Msrs, { entries: sent }, "setMsrs()");
    const count = handle.ioctl(ioctl, bytes, { args: { entries: batch } });
    taken += count;
    if (count < batch.length) break;
  }
  return taken;
}

function isFit(entry: StructInputWith<MsrEntry, "index" | "data"> | undefined): boolean {
  for (const name in entry) {
    if (name !== "index" && name !== "data" && name !== "reserved") return false;
  }
  return entry?.index !== undefined && entry.data !== undefined;
}

function batches<T>(all: readonly T[]): readonly (readonly T[])[] {
  const count = Math.max(1, Math.ceil(all.length / MSRS_PER_CALL));
  return Array.from({ length: count }, (_, i) =>
    all.slice(i * MSRS_PER_CALL, (i + 1) * MSRS_PER_CALL),
  );
}
