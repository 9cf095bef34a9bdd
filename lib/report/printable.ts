/**
 * Makes text from outside (a guest, a kernel, a package archive) printable: without escape sequences, line ends and
 * invisible characters, which could forge lines or control a terminal.
 */

/**
 * The characters that are escaped: control, format, private and unassigned characters, lone surrogates, line and
 * paragraph separators.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

const SHORT: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Writes text on one line; unprintable characters become `\n`, `\x1b`, `\u{202e}`. */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, escaped);
}

/** Writes text that may have several lines, each of which becomes {@link printable}. */
export function printableLines(text: string): string {
  return text
    .split("\n")
    .map((line) => printable(line.replace(/\r$/, "")))
    .join("\n");
}

/** Writes a value as JSON with several lines; parsing the JSON returns each string unchanged. */
export function printableJson(value: unknown): string {
  const text = JSON.stringify(value, null, 2);
  return text.replaceAll(UNPRINTABLE, (found) => (found === "\n" ? found : units(found)));
}

function escaped(found: string): string {
  const code = found.codePointAt(0) ?? 0;
  const hex = code.toString(16);
  return SHORT[found] ?? (code < 0x100 ? `\\x${hex.padStart(2, "0")}` : `\\u{${hex}}`);
}

/** The escape of JSON itself, for each UTF-16 unit. */
function units(found: string): string {
  return Array.from({ length: found.length }, (_, i) => {
    const hex = found.charCodeAt(i).toString(16);
    return `\\u${hex.padStart(4, "0")}`;
  }).join("");
}
