/** The C functions that an exported file is made with. A file gets those that it uses, no others. */

import { CALL_PARTS } from "./prelude-calls.ts";
import { CHECK_PARTS, type Part } from "./prelude-checks.ts";

const PARTS: readonly Part[] = [...CALL_PARTS, ...CHECK_PARTS];

/** What the text of a file must be told. */
export interface PreludeValues {
  readonly argumentBytes: number;
  /** The last line when every answer was as recorded. */
  readonly same: string;
  /** The last line when `%d` were not. */
  readonly other: string;
}

/** After so many seconds in one call, a guest has gone astray. */
export const PATIENCE = 120;

/** Names that are no functions. */
const WORDS = ["ARGUMENT_BYTES", "differences", "about_host", "too_late"];

function isUsed(name: string, text: string): boolean {
  const isWord = WORDS.includes(name) || name.startsWith("struct ");
  return new RegExp(isWord ? `\\b${name}\\b` : `\\b${name}\\(`).test(text);
}

/** Gives the functions that `text` uses, and those that these use. */
export function prelude(text: string, values: PreludeValues): string {
  const needed: Part[] = [];
  let all = text;
  for (const part of PARTS.toReversed()) {
    if (!isUsed(part.name, all)) continue;
    const isHostTold = /\babout_host\b/.test(all);
    const rule = isHostTold
      ? '\tif (!why && about_host && !is_same_host())\n\t\twhy = "this is not the host that was recorded";\n'
      : "";
    const filled = part.text
      .replaceAll("@HOST_RULE@", rule)
      .replaceAll("@PATIENCE@", String(PATIENCE))
      .replaceAll("@ARGUMENT_BYTES@", String(values.argumentBytes))
      .replaceAll("@SAME@", () => values.same)
      .replaceAll("@OTHER@", () => values.other);
    needed.unshift({ name: part.name, text: filled });
    all += filled;
  }
  return needed.map((part) => part.text).join("\n\n");
}
