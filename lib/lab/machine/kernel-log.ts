/** Collects a kernel's log from a serial port, and finds the lines that report a problem. */
import { StringDecoder } from "node:string_decoder";
import { LabError } from "../error.ts";
import { PortBuffer } from "./port-buffer.ts";

/**
 * The kernel's reports of its own faults: WARN, BUG, Oops and similar reports. A remark about the CPU such as
 * "RETBleed: WARNING: ..." is not a fault.
 */
const TROUBLE =
  /^(?:\[[ \d.]+\] )?(?:(?:watchdog: |\S+: )?BUG: |WARNING: |kernel BUG at |Oops: |Internal error: |general protection fault|unchecked MSR access error|stack segment: |traps: PANIC: |PANIC: |double fault: |Kernel panic |(?:rcu: )?INFO: \S+ (?:self-)?detected |INFO: task .* blocked for more than |UBSAN: )/;

/**
 * Words that occur in the kernel's reports (WARN, BUG, Oops and others): each report contains at least one of them.
 * Text without these words is not searched line by line, because such a search is slower.
 */
const HINT = /BUG|WARNING|Oops|error|fault|stack segment|PANIC|panic|INFO|UBSAN/;

/** The limit of a log in bytes; the log of a usual boot has 60 kB. */
const MOST_BYTES = 16 * 2 ** 20;
/** The limit of a line; a longer line is split, and the kernel's own lines have at most 1 kB. */
const LONGEST_LINE = 16 * 2 ** 10;
/** The maximum number of reports that are listed; the log contains all reports. */
const MOST_WARNINGS = 1000;

/** Collects the lines of a log. The lines have no carriage returns. */
export class KernelLog {
  readonly #bytes: PortBuffer;
  #warnings: string[] = [];
  #unlisted = 0;
  #rest = "";
  readonly #decoder = new StringDecoder("utf8");
  readonly #onLine: ((line: string) => void) | undefined;

  /** Makes an empty log of at most `most` bytes; `onLine` is called with each complete line. */
  constructor(onLine?: (line: string) => void, most: number = MOST_BYTES) {
    this.#onLine = onLine;
    this.#bytes = new PortBuffer(most);
  }

  /**
   * Takes bytes.
   *
   * @throws {@link LabError} `ERR_LAB_GUEST` if the log exceeds its limit; it then has the bytes before the limit.
   */
  push(bytes: Uint8Array): void {
    const taken = this.#bytes.append(bytes);
    const text = this.#decoder
      .write(Buffer.from(bytes.buffer, bytes.byteOffset, taken))
      .replaceAll("\r", "");
    const end = text.lastIndexOf("\n");
    if (end !== -1) {
      this.#add(this.#rest + text.slice(0, end));
      this.#rest = "";
    }
    // The pieces are joined only at the end of the line, because a long line would otherwise be copied for each piece.
    this.#rest += text.slice(end + 1);
    if (this.#rest.length > LONGEST_LINE) this.end();
    if (taken === bytes.length) return;
    const sentence = `the guest wrote more than ${this.#bytes.length} bytes to the kernel's log on ttyS0`;
    throw new LabError("ERR_LAB_GUEST", sentence);
  }

  /** Ends the log after the last line, which may be incomplete after a crash. */
  end(): void {
    if (this.#rest !== "") this.#add(this.#rest);
    this.#rest = "";
  }

  /** The text of the log so far. */
  get text(): string {
    const { buffer, byteOffset, length } = this.#bytes.bytes;
    const text = Buffer.from(buffer, byteOffset, length).toString().replaceAll("\r", "");
    return text === "" || text.endsWith("\n") ? text : `${text}\n`;
  }

  /** The lines that report a fault of the kernel: the first thousand, and a line with the number of further reports. */
  get warnings(): readonly string[] {
    if (this.#unlisted === 0) return this.#warnings;
    return [...this.#warnings, `${this.#unlisted} more lines like these are in the log`];
  }

  #add(lines: string): void {
    const hasHint = HINT.test(lines);
    if (!hasHint && this.#onLine === undefined) return;
    for (const line of lines.split("\n")) {
      if (hasHint && TROUBLE.test(line)) this.#warn(line);
      this.#onLine?.(line);
    }
  }

  #warn(line: string): void {
    if (this.#warnings.length < MOST_WARNINGS) this.#warnings.push(line);
    else this.#unlisted += 1;
  }
}

/** Returns the end of a log, from the first report of a fault on; the last lines if there is no report. */
export function crashReport(log: string): string {
  const lines = log.trimEnd().split("\n");
  const first = lines.findIndex((line) => TROUBLE.test(line));
  return lines.slice(first === -1 ? -20 : first).join("\n");
}
