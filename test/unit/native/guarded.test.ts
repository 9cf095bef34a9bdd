/** Tests of the copies of ioctl arguments: small copies are reused, large copies are unmapped after the call. */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { KVM_CLEAR_DIRTY_LOG } from "../../../lib/abi/generated/ioctls.ts";
import { type Bench, deviceTest } from "./bench.ts";

const PAGE = 4096;
const MIB = 2 ** 20;

interface Mapped {
  readonly start: number;
  readonly end: number;
  readonly mode: string;
}

function maps(): readonly Mapped[] {
  const lines = readFileSync("/proc/self/maps", "latin1").trim().split("\n");
  return lines.map((line) => {
    const [, start = "", end = "", mode = ""] = /^(\w+)-(\w+) (\S+)/.exec(line) ?? [];
    return { start: Number.parseInt(start, 16), end: Number.parseInt(end, 16), mode };
  });
}

/**
 * Finds an inaccessible page that follows a writable mapping of at least this many bytes: the end of a copy. The start
 * of the mapping is unknown, because the kernel joins the mapping with a neighbour of the same permissions.
 */
function guarded(size: number): readonly number[] {
  const all = maps();
  return all
    .filter(({ start, end, mode }, at) => {
      const next = all[at + 1];
      const isGuard = next?.start === end && next.mode === "---p" && next.end - next.start === PAGE;
      return mode === "rw-p" && end - start >= size && isGuard;
    })
    .map(({ end }) => end);
}

/** Passes a dirty bitmap of this many bytes. The addon copies the bitmap before the kernel can refuse it. */
function send(bench: Bench, byteLength: number): void {
  const struct = new Uint8Array(KVM_CLEAR_DIRTY_LOG.size);
  bench.vm.ioctl(KVM_CLEAR_DIRTY_LOG.request, struct, false, [new Uint8Array(byteLength)]);
}

deviceTest("the copy of an argument of 64 MiB is unmapped after the call", (bench) => {
  const before = guarded(64 * MIB);
  send(bench, 64 * MIB);
  expect(guarded(64 * MIB)).toEqual(before);
});

deviceTest("the copy of an argument of 15 pages stays mapped for the next call", (bench) => {
  const before = guarded(15 * PAGE);
  send(bench, 15 * PAGE);
  const kept = guarded(15 * PAGE);
  send(bench, 15 * PAGE);
  send(bench, 3 * PAGE);
  expect(kept).toHaveLength(before.length + 1);
  expect(guarded(15 * PAGE)).toEqual(kept);
});

deviceTest("of nested calls 32 copies stay mapped", (bench) => {
  const size = 13 * PAGE;
  const request = KVM_CLEAR_DIRTY_LOG.request;
  const nest = (depth: number): void => {
    if (depth === 0) return;
    const links = [new Uint8Array(size)];
    Object.defineProperty(links, 0, {
      get: () => {
        nest(depth - 1);
        return new Uint8Array(size);
      },
    });
    bench.vm.ioctl(request, new Uint8Array(KVM_CLEAR_DIRTY_LOG.size), false, links);
  };
  const before = guarded(size).length;
  nest(60);
  expect(guarded(size).length - before).toBeLessThanOrEqual(32);
});
