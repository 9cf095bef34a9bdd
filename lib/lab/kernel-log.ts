/** A kernel's log as it comes over a serial line, and what in it is a sign of trouble. */
import { StringDecoder } from "node:string_decoder";

/**
 * What the kernel writes when it has found a fault of its own: WARN, BUG, Oops and their kin. A
 * mere remark such as "RETBleed: WARNING: ..." about the CPU is none.
 */
const TROUBLE =
  /^(?:\[[ \d.]+\] )?(?:(?:watchdog: |\S+: )?BUG: |WARNING: |kernel BUG at |Oops: |Internal error: |general protection fault|unchecked MSR access error|stack segment: |traps: PANIC: |PANIC: |double fault: |Kernel panic |(?:rcu: )?INFO: \S+ (?:self-)?detected |INFO: task .* blocked for more than |UBSAN: )/;

/** Reads the log. Lines are without carriage returns. */
export class KernelLog {
  #lines: string[] = [];
  #rest = "";
  readonly #decoder = new StringDecoder("utf8");
  readonly #onLine: ((line: string) => void) | undefined;

  /** Makes an empty log; `onLine` hears each line when it is whole. */
  constructor(onLine?: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** Takes what arrived. */
  push(bytes: Buffer): void {
    const lines = (this.#rest + this.#decoder.write(bytes)).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#add(line);
  }

  /** Takes the last line, which a crash may have cut off. */
  end(): void {
    if (this.#rest !== "") this.#add(this.#rest);
    this.#rest = "";
  }

  /** The log so far. */
  get text(): string {
    return this.#lines.map((line) => `${line}\n`).join("");
  }

  /** The lines that report a fault of the kernel's. */
  get warnings(): readonly string[] {
    return this.#lines.filter((line) => TROUBLE.test(line));
  }

  #add(raw: string): void {
    const line = raw.replaceAll("\r", "");
    this.#lines.push(line);
    this.#onLine?.(line);
  }
}

/** Cuts a crash out of a log: from the first sign of trouble on; the last lines when there is none. */
export function crashReport(log: string): string {
  const lines = log.trimEnd().split("\n");
  const first = lines.findIndex((line) => TROUBLE.test(line));
  return lines.slice(first === -1 ? -20 : first).join("\n");
}
