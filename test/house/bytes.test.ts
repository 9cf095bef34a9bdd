/** Tests that lib/ accepts byte arrays that are Buffers or come from another realm. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, test } from "vitest";

const LIB = join(import.meta.dirname, "..", "..", "lib");

/** Folders of lib/ in which every array was created by this package or converted by `kvm/handle.ts`. */
const INNER = ["lab", "explain", "abi/bytes.ts"];

const RULES: readonly { readonly pattern: RegExp; readonly why: string }[] = [
  {
    pattern: /instanceof (?:Uint8Array|ArrayBuffer|SharedArrayBuffer|DataView|Buffer)\b/,
    why: "rejects an array of another realm: use isBytes of abi/bytes.ts",
  },
];

function findings(text: string): readonly string[] {
  return RULES.filter(({ pattern }) => pattern.test(text)).map(({ why }) => why);
}

const sources = readdirSync(LIB, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
  .map((entry) => relative(LIB, join(entry.parentPath, entry.name)))
  .filter((file) => !INNER.some((inner) => file === inner || file.startsWith(`${inner}/`)))
  .sort();

test("no file of lib/ recognises bytes by instanceof, which fails for objects of another realm", () => {
  const found = sources.flatMap((file) =>
    findings(readFileSync(join(LIB, file), "utf8")).map((why) => `lib/${file} ${why}`),
  );
  expect(found).toEqual([]);
});

test("the trace copies bytes with copyOf, because slice() of a Buffer returns a view", () => {
  const text = readFileSync(join(LIB, "trace/sink.ts"), "utf8");
  expect(text.match(/(?:argument|link\.bytes)\??\.slice\(/g)).toBeNull();
});

describe("the search for instanceof on bytes finds a planted fault", () => {
  test.each(["value instanceof Uint8Array", "!(value instanceof ArrayBuffer)"])("%s", (text) => {
    expect(findings(text)).toHaveLength(1);
  });
});
