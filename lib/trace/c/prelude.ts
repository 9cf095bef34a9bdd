/** Selects the functions, variables, structs and macros of prelude.c and selftest.c that an exported file uses. */

import { PRELUDE_C, SELFTEST_C } from "../generated/texts.ts";
import type { CStyle } from "./dialect.ts";

/** One function, variable, struct or macro of prelude.c. */
interface Part {
  readonly name: string;
  /** A pattern that finds a use of the function, variable, struct or macro in a file's text. */
  readonly use: RegExp;
  readonly text: string;
}

/** Values of a file that replace the FILL_ names of prelude.c. */
export interface PreludeValues {
  readonly argumentBytes: number;
  /** The last line of output if every result equals the recorded result. */
  readonly same: string;
  /** The last line of output if `%d` results differ from the recording. */
  readonly other: string;
}

/** The time in seconds after which the program ends if a call has not returned. */
const TIMEOUT_S = 120;

const MARKER = /^\/\/ part: (.+?)(\(\))?\n/gm;

/** Splits a file at its markers; the includes and definitions before the first marker are omitted. */
function readParts(file: string): readonly Part[] {
  const markers = Array.from(file.matchAll(MARKER));
  return markers.map(({ 0: marker, 1: name = "", 2: call, index }, i) => {
    const text = file.slice(index + marker.length, markers[i + 1]?.index);
    return {
      name,
      use: new RegExp(call === undefined ? `\\b${name}\\b` : `\\b${name}\\(`),
      text: text.replaceAll(/^\s*\/\/.*\n/gm, "").trimEnd(),
    };
  });
}

const CONDITIONAL = /^#ifdef USES_(\w+)\n([\s\S]*?)^#endif\n/gm;

/** Returns the parts of a style: selftest.c replaces parts of prelude.c. */
function partsOf(style: CStyle): readonly Part[] {
  const parts = readParts(PRELUDE_C);
  if (style === "program") return parts;
  const own = new Map(readParts(SELFTEST_C).map((part) => [part.name, part]));
  return parts.map((part) => own.get(part.name) ?? part);
}

/** Returns the definitions that `text` uses, directly or through other definitions, in the order of prelude.c. */
export function prelude(text: string, values: PreludeValues, style: CStyle): string {
  // One pass fills all words, because the name of a claim may contain such a word.
  const fillings: ReadonlyMap<string, string> = new Map([
    ["FILL_TIMEOUT", String(TIMEOUT_S)],
    ["FILL_ARGUMENT_BYTES", String(values.argumentBytes)],
    ["FILL_SAME", `"${values.same}"`],
    ["FILL_OTHER", `"${values.other}\\n"`],
  ]);
  const needed: string[] = [];
  let all = text;
  for (const part of partsOf(style).toReversed()) {
    if (!part.use.test(all)) continue;
    const filled = part.text
      .replaceAll(CONDITIONAL, (_, name: string, lines: string) =>
        new RegExp(`\\b${name}\\b`).test(all) ? lines : "",
      )
      .replaceAll(/\bFILL_[A-Z_]+\b/g, (word) => fillings.get(word) ?? word);
    needed.unshift(filled);
    all += filled;
  }
  return needed.join("\n\n");
}
