/**
 * The guest's first process, init.sh, and the parser of its messages. The guest only prints, and the host interprets
 * the printed messages.
 *
 * The guest uses four serial ports, which every kernel of the catalogue supports without a module: ttyS0 carries the
 * kernel's log, ttyS1 and ttyS2 the command's stdout and stderr, and ttyS3 the messages of init.
 */
import { posix } from "node:path";
import { printable } from "../../report/printable.ts";
import { LabError } from "../error.ts";
import { INIT_SH } from "../generated/texts.ts";
import { PortBuffer } from "./port-buffer.ts";

/** The lab's folder in the guest. */
export const LAB = "/lab";

/**
 * A file that exists in the guest while the machine waits for its work; the process that reads the work removes the
 * file.
 */
export const HELD: string = `${LAB}/held`;

/** The serial port on which the guest reads its work: a line with the length in bytes, then the bytes. */
export const WORK_PORT = 3;

/** A message of init on ttyS3. */
export type Word =
  /** The root is mounted. */
  | { readonly kind: "up" }
  /** A message that init sends every few seconds. It distinguishes a silent command from a dead emulator. */
  | { readonly kind: "beat" }
  /** KVM could not be loaded. */
  | { readonly kind: "no-kvm"; readonly why: string }
  /** The machine waits for its work: its preparations are complete, and it may be saved. */
  | { readonly kind: "ready" }
  /** The guest starts the command. */
  | { readonly kind: "run" }
  /** The command has ended, and the guest has sent this many bytes of its output. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly stdout: number;
      readonly stderr: number;
    }
  | { readonly kind: "file"; readonly path: string; readonly bytes: Uint8Array }
  | { readonly kind: "missing"; readonly path: string }
  /** The last message: the machine powers off. If init does not send its last message, the machine has crashed. */
  | { readonly kind: "end" };

/** The message that init writes to the kernel's log if the kernel has fewer than four serial ports. */
export const NO_PORTS = "node-kvm lab: this kernel has no ttyS3";

/** The values of the names between "@" in init.sh. */
const VALUES: Readonly<Record<string, string>> = {
  LAB,
  HELD,
  NO_PORTS,
  WORK_PORT: String(WORK_PORT),
};

/** The script that the guest runs as /init. */
export const INIT: string = INIT_SH.replaceAll(/@([A-Z_]+)@/g, (whole, name: string) => {
  const value = VALUES[name];
  if (value === undefined) throw new Error(`init.sh has ${whole}, which init.ts does not define`);
  return value;
});

/** The limits on the guest's output on ttyS3. */
export interface ControlLimits {
  /** The maximum number of all bytes, including the bytes of files. */
  readonly bytes: number;
  /** The maximum number of bytes of one line; a path may have 4096 bytes. */
  readonly line: number;
  readonly lines: number;
  readonly files: number;
}

/**
 * The lab's own guests never reach these limits: an emulated port transmits about 500 kB/s, and init sends a message
 * every 5 s.
 */
const CONTROL_LIMITS: ControlLimits = {
  bytes: 256 * 2 ** 20,
  line: 8192,
  lines: 200_000,
  files: 65_536,
};

/** A file of which some bytes have not arrived yet. */
interface Unfinished {
  readonly path: string;
  readonly body: PortBuffer;
}

/** The number of bytes that were consumed, and the message that these bytes complete. */
interface Taken {
  readonly taken: number;
  readonly word: Word | undefined;
}

/** The messages that init sends at most once. */
const ONCE: readonly string[] = ["up", "no-kvm", "ready", "run", "status", "end"];

/**
 * Parses ttyS3 without trusting it, because every root process of the guest can write there. The parser stores one
 * incomplete line or file, and the paths of the files that it has returned.
 */
export class Control {
  readonly #wanted: readonly string[] | undefined;
  readonly #limits: ControlLimits;
  readonly #line: PortBuffer;
  readonly #said = new Set<string>();
  readonly #paths = new Set<string>();
  #heard = 0;
  #lines = 0;
  #file: Unfinished | undefined;

  /**
   * Creates a parser before the first byte of a boot.
   *
   * @param wanted - the requested paths, normalised by {@link guestPath}; any path by default.
   */
  constructor(wanted?: readonly string[], limits: ControlLimits = CONTROL_LIMITS) {
    this.#wanted = wanted;
    this.#limits = limits;
    this.#line = new PortBuffer(limits.line);
  }

  /**
   * Parses bytes of the port; returns the messages that the bytes complete.
   *
   * @throws {@link LabError} `ERR_LAB_GUEST` if a message is malformed, repeated or out of order, if its path is
   *   not absolute, normalised, printable and requested, or if a limit is exceeded.
   */
  push(bytes: Uint8Array): readonly Word[] {
    this.#heard += bytes.length;
    if (this.#heard > this.#limits.bytes) {
      throw fault(`more than ${this.#limits.bytes} bytes on ttyS3`);
    }
    const words: Word[] = [];
    for (let rest = bytes; rest.length > 0; ) {
      const { taken, word } =
        this.#file === undefined ? this.#takeLine(rest) : this.#takeBody(this.#file.body, rest);
      if (word !== undefined) words.push(word);
      rest = rest.subarray(taken);
    }
    return words;
  }

  #takeLine(bytes: Uint8Array): Taken {
    const end = bytes.indexOf(NEWLINE);
    const piece = end === -1 ? bytes : bytes.subarray(0, end);
    if (this.#line.append(piece) < piece.length) {
      throw fault(`a line of more than ${this.#limits.line} bytes on ttyS3`);
    }
    if (end === -1) return { taken: bytes.length, word: undefined };
    this.#lines += 1;
    if (this.#lines > this.#limits.lines) {
      throw fault(`more than ${this.#limits.lines} lines on ttyS3`);
    }
    const line = decode(this.#line.bytes);
    this.#line.keepLast(0);
    return { taken: end + 1, word: this.#read(line) };
  }

  #takeBody(body: PortBuffer, bytes: Uint8Array): Taken {
    return { taken: body.append(bytes), word: this.#finishedFile() };
  }

  /** Returns the file when its last byte has arrived; returns an empty file at once. */
  #finishedFile(): Word | undefined {
    const file = this.#file;
    if (file === undefined || file.body.room > 0) return undefined;
    this.#file = undefined;
    return { kind: "file", path: file.path, bytes: file.body.bytes };
  }

  #read(line: string): Word | undefined {
    const [kind = "", ...parts] = line.split(" ");
    const why = this.#whyNotNow(kind);
    if (why !== undefined) throw fault(line, why);
    this.#said.add(kind);
    switch (kind) {
      case "up":
      case "beat":
      case "ready":
      case "run":
        return { kind };
      case "end":
        this.#checkFolders();
        return { kind };
      case "no-kvm":
        return { kind, why: parts.join(" ") };
      case "missing":
        return { kind, path: this.#path(line, parts) };
      case "status":
        return { kind, ...statusOf(line, parts) };
      case "file": {
        const [length = "", ...path] = parts;
        this.#file = this.#announced(line, length, this.#path(line, path));
        return this.#finishedFile();
      }
      default:
        // A line that is not a message is ignored; a dying guest, for example, may print half a message.
        return undefined;
    }
  }

  #whyNotNow(kind: string): string | undefined {
    if (this.#said.has("end")) return "after its last message";
    if (ONCE.includes(kind) && this.#said.has(kind)) return "for the second time";
    const hasStatus = this.#said.has("status");
    if ((kind === "file" || kind === "missing") && !hasStatus) return "before the command's status";
    // After the status, an unknown message is an error, because a lost byte could belong to a file.
    if (hasStatus && !KINDS.includes(kind)) return "which is not a message";
    return undefined;
  }

  #announced(line: string, length: string, path: string): Unfinished {
    const bytes = countOf(length);
    if (bytes === undefined) throw fault(line, "without a number of bytes");
    if (bytes > this.#limits.bytes) {
      throw fault(line, `which exceeds the limit of ${this.#limits.bytes} bytes`);
    }
    if (this.#paths.has(path)) throw fault(line, "for the second time");
    if (this.#paths.size === this.#limits.files) {
      throw fault(line, `after ${this.#limits.files} other files`);
    }
    this.#paths.add(path);
    return { path, body: new PortBuffer(bytes) };
  }

  #path(line: string, parts: readonly string[]): string {
    const path = parts.join(" ");
    const why =
      whyNoPath(path) ??
      (this.#isWanted(path) ? undefined : "is not a file that the host requested");
    if (why !== undefined) throw fault(line, `which ${why}`);
    return path;
  }

  #isWanted(path: string): boolean {
    if (this.#wanted === undefined) return true;
    return this.#wanted.some((wanted) => isBelow(path, wanted));
  }

  /** Checks that no file is also a folder. */
  #checkFolders(): void {
    // In this sort order, all paths below a folder directly follow the folder.
    const sorted = Array.from(this.#paths, (path) => path.replaceAll("/", "\0"));
    sorted.sort((a, b) => (a < b ? -1 : 1));
    const i = sorted.findIndex((path, at) => path.startsWith(`${sorted[at - 1]}\0`));
    if (i === -1) return;
    const [file, below] = sorted.slice(i - 1, i + 1).map((path) => path.replaceAll("\0", "/"));
    throw fault(`file ${below}`, `though ${printable(file ?? "")} is a file`);
  }
}

const NEWLINE = 10;
const KINDS: readonly string[] = ["beat", "missing", "file", ...ONCE];

function decode({ buffer, byteOffset, length }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, length).toString();
}

/** Parses a count; `undefined` for anything but decimal digits. */
function countOf(text: string): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function statusOf(
  line: string,
  parts: readonly string[],
): { readonly status: number; readonly stdout: number; readonly stderr: number } {
  const [status, stdout, stderr] = parts.map(countOf);
  const isWhole = parts.length === 3 && status !== undefined && status < 256;
  if (!isWhole || stdout === undefined || stderr === undefined) {
    throw fault(line, "which is not an exit status and two numbers of bytes");
  }
  return { status, stdout, stderr };
}

/** Returns the reason why a path cannot be printed by the guest's `find` below a normalised path. */
function whyNoPath(path: string): string | undefined {
  if (/[^\P{Cc}\t]/u.test(path)) return "has a control character other than a tab";
  if (!path.startsWith("/")) return "is not absolute";
  if (posix.normalize(path) !== path || path.endsWith("/")) return "is not normalised";
  return undefined;
}

/** Whether a path equals another or is below it. */
export function isBelow(path: string, other: string): boolean {
  return path === other || path.startsWith(other === "/" ? "/" : `${other}/`);
}

/**
 * Normalises a path in the guest, without a slash at the end.
 *
 * @throws {@link LabError} `ERR_LAB_FILE` if it is relative or has a control character other than a tab.
 */
export function guestPath(text: string): string {
  const path = posix.normalize(text).replace(/(?<=.)\/$/, "");
  const why = path === "/" ? undefined : whyNoPath(path);
  if (why === undefined) return path;
  throw new LabError("ERR_LAB_FILE", `the guest path "${printable(text)}" ${why}`);
}

/** The number of characters of a line that an error shows. */
const SHOWN = 100;

function fault(line: string, why?: string): LabError {
  const said = line.length > SHOWN ? `${line.slice(0, SHOWN)}…` : line;
  const sentence = why === undefined ? said : `"${printable(said)}" on ttyS3, ${why}`;
  return new LabError("ERR_LAB_GUEST", `the guest wrote ${sentence}`);
}
