/** Selects the functions, variables, structs and macros of prelude.c that an exported file uses. */

import { PRELUDE_C } from "../generated/texts.ts";

/** One function, variable, struct or macro of prelude.c. */
interface Part {
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

/** Splits prelude.c at its markers; the includes and definitions before the first marker are omitted. */
function readParts(): readonly Part[] {
  const markers = Array.from(PRELUDE_C.matchAll(MARKER));
  return markers.map(({ 0: marker, 1: name = "", 2: call, index }, i) => {
    const text = PRELUDE_C.slice(index + marker.length, markers[i + 1]?.index);
    return {
      use: new RegExp(call === undefined ? `\\b${name}\\b` : `\\b${name}\\(`),
      text: text.replaceAll(/^\s*\/\/.*\n/gm, "").trimEnd(),
    };
  });
}

const CONDITIONAL = /^#ifdef USES_(\w+)\n([\s\S]*?)^#endif\n/gm;

/** Returns the definitions that `text` uses, directly or through other definitions, in the order of prelude.c. */
export function prelude(text: string, values: PreludeValues): string {
  const needed: string[] = [];
  let all = text;
  for (const part of readParts().toReversed()) {
    if (!part.use.test(all)) continue;
    const filled = part.text
      .replaceAll(CONDITIONAL, (_, name: string, lines: string) =>
        new RegExp(`\\b${name}\\b`).test(all) ? lines : "",
      )
      .replaceAll("FILL_TIMEOUT", String(TIMEOUT_S))
      .replaceAll("FILL_ARGUMENT_BYTES", String(values.argumentBytes))
      .replaceAll("FILL_SAME", () => `"${values.same}"`)
      .replaceAll("FILL_OTHER", () => `"${values.other}\\n"`);
    needed.unshift(filled);
    all += filled;
  }
  return needed.join("\n\n");
}
