/**
 * Tests that lib/ takes errno numbers from os.constants.errno of Node.js, and that no file of lib/ writes an errno as a
 * number.
 */
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const LIB = join(import.meta.dirname, "..", "..", "lib");
const NAMES = Object.keys(constants.errno).join("|");

/** Finds an assignment of a number to an errno's name, and a comparison of an errno with a number other than 0. */
const WRITTEN = new RegExp(`\\b(${NAMES})\\b[^;=>\\n]*=\\s*\\[?\\s*-?\\d|\\berrno [!=]== -?[1-9]`);

const written = (text: string): readonly string[] =>
  text.split("\n").filter((line) => WRITTEN.test(line) && !/^\s*\*/.test(line));

const sources = readdirSync(LIB, { recursive: true, encoding: "utf8" }).filter(
  (file) => file.endsWith(".ts") && !file.includes("generated/"),
);

test("no file of lib/ writes an errno as a number", () => {
  const found = sources.flatMap((file) =>
    written(readFileSync(join(LIB, file), "utf8")).map((line) => `lib/${file}: ${line.trim()}`),
  );
  expect(sources.length).toBeGreaterThan(50);
  expect(found).toEqual([]);
});

describe("the search for numeric errnos", () => {
  test.each([
    "const EAGAIN = 11;",
    "const [EINTR, EBUSY] = [4, 16];",
    "if (errno === 95) return;",
    "const EFAULT: number = 14;",
  ])("finds %s", (text) => {
    expect(written(text)).toEqual([text]);
  });

  test.each(["const { EAGAIN } = constants.errno;", "if (errno === 0) return;"])(
    "does not report %s",
    (text) => {
      expect(written(text)).toEqual([]);
    },
  );
});
