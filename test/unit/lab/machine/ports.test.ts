/** Tests of the parser of the four ports: invalid input ends the machine and has no other effect. */
import { lstatSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { writeOut } from "../../../../lib/cli/lab-out.ts";
import { LabError } from "../../../../lib/lab/error.ts";
import { type PortLimits, Ports } from "../../../../lib/lab/machine/ports.ts";
import { temporaryFolder } from "../temporary.ts";
import { HOSTILE } from "./hostile.ts";

vi.setConfig({ testTimeout: 300_000 });

/** The limits are small, so that random streams reach them. */
const LIMITS: PortLimits = {
  log: 600,
  control: { bytes: 900, line: 80, lines: 30, files: 5 },
  kept: 500,
  passed: 700,
  tail: 50,
};

const RUNS = 100_000;
/** The number of bytes that all ports together may retain. */
const MOST_LEFT = 100e6;

const path = fc.oneof(
  fc.constantFrom("/out/a", "/out/a/b", "/out/b", "/out", "/out/link/x", "/out/loop", "/out/d/x"),
  fc.constantFrom("/out/../x", "/out/./a", "/out//a", "out/a", "/etc/passwd", "/outside", ""),
  fc.string({ maxLength: 8 }).map((text) => `/out/${text}`),
);
const number = fc.oneof(
  fc.integer({ min: 0, max: 12 }).map(String),
  fc.constantFrom("1000", "100000000000000", "-1", "0x1", "", "NaN"),
);
const word = fc.oneof(
  fc.constantFrom("up", "beat", "run", "end", "no-kvm why", "status 0 0 0", "status 0 0 0"),
  fc.tuple(number, number, number).map((numbers) => `status ${numbers.join(" ")}`),
  fc.tuple(number, path).map(([length, name]) => `file ${length} ${name}`),
  path.map((name) => `missing ${name}`),
  fc.string({ maxLength: 100 }),
);
const words = fc
  .array(word, { maxLength: 12 })
  .map((lines) => Buffer.from(lines.map((line) => `${line}\n`).join("")));
const noise = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
/** A complete conversation with the guest that returns files, so that the parser writes some. */
const files = fc
  .array(fc.tuple(path, noise), { maxLength: 3 })
  .map((some) =>
    Buffer.concat([
      Buffer.from("up\nrun\nstatus 0 0 0\n"),
      ...some.flatMap(([name, body]) => [Buffer.from(`file ${body.length} ${name}\n`), body]),
      Buffer.from("end\n"),
    ]),
  );
const lines = fc
  .array(fc.constantFrom("[ 0.1] BUG: x", "a".repeat(200), "\r", ""), { maxLength: 8 })
  .map((some) => Buffer.from(some.join("\n")));

const piece = fc.oneof(
  fc.tuple(fc.constant(3), fc.oneof({ weight: 3, arbitrary: words }, noise, files)),
  fc.tuple(fc.constant(0), fc.oneof(lines, noise)),
  fc.tuple(fc.constantFrom(1, 2), noise),
);
const cut = fc.integer({ min: 1, max: 64 });

/** Creates a target folder with a link to a folder and a link to a file, and the targets of these links next to it. */
function target(): { readonly folder: string; readonly outside: string } {
  const root = temporaryFolder();
  const [folder, outside] = [join(root, "target"), join(root, "outside")];
  mkdirSync(folder);
  mkdirSync(outside);
  writeFileSync(join(outside, "file"), "mine");
  symlinkSync(outside, join(folder, "link"));
  symlinkSync(join(outside, "file"), join(folder, "loop"));
  return { folder, outside };
}

/** Passes all pieces to the ports, each piece split; returns the error that ended the conversation, or `undefined`. */
function tell(ports: Ports, pieces: readonly (readonly [number, Buffer])[], size: number): unknown {
  try {
    for (const [port, bytes] of pieces) {
      for (let at = 0; at < bytes.length; at += size) {
        ports.hear(port, bytes.subarray(at, at + size));
      }
    }
    return undefined;
  } catch (error) {
    return error;
  }
}

test(`${RUNS} random conversations cause only errors about the guest, use bounded memory and write no file outside of the target`, () => {
  const { folder, outside } = target();
  const before = process.memoryUsage();
  const seen = { errors: 0, whole: 0, files: 0 };
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), cut, fc.boolean(), (pieces, size, passOn) => {
      const ports = new Ports(["/out"], passOn ? { onStdout: () => undefined } : {}, LIMITS);
      const error = tell(ports, pieces, size);
      const sizes = Array.from(ports.files.values(), ({ length }) => length);
      seen.errors += Number(error !== undefined);
      seen.whole += Number(ports.isEnded);
      seen.files += sizes.length;
      writeOut(ports.files, [{ guest: "/out", host: folder }]);
      // The test compares one boolean, because a matcher for each conversation would take most of the time.
      return (
        (error === undefined || (error instanceof LabError && error.code === "ERR_LAB_GUEST")) &&
        ports.log.text.length <= 601 &&
        ports.stdout.bytes.length <= (passOn ? 50 : 500) &&
        ports.stderr.bytes.length <= 500 &&
        sizes.length <= 5 &&
        sizes.reduce((sum, length) => sum + length, 0) <= 900
      );
    }),
    { numRuns: RUNS },
  );
  expect(readdirSync(outside)).toEqual(["file"]);
  expect(readdirSync(join(folder, ".."))).toEqual(["outside", "target"]);
  expect(lstatSync(join(folder, "link")).isSymbolicLink()).toBe(true);
  // All three outcomes must have occurred often, because otherwise the streams would not test the parser.
  expect(Object.values(seen).every((times) => times > RUNS / 100)).toBe(true);
  const after = process.memoryUsage();
  expect(after.heapUsed + after.arrayBuffers).toBeLessThan(
    before.heapUsed + before.arrayBuffers + MOST_LEFT,
  );
});

test.each(HOSTILE)(
  "a guest whose output is invalid is rejected, in whatever pieces its output arrives: $title",
  ({ control, why }) => {
    // The longest output is not split into small pieces, because this would take too long.
    for (const size of control.length > 1e5 ? [1000, 4096] : [1, 3, control.length]) {
      const ports = new Ports(["/out"]);
      expect(
        tell(
          ports,
          [
            [3, Buffer.from("up\nrun\n")],
            [3, Buffer.from(control)],
          ],
          size,
        ),
      ).toMatchObject({ code: "ERR_LAB_GUEST", message: expect.stringContaining(why) });
    }
  },
);
