/**
 * The guest's first process, and what it tells the host. It only prints: the host judges.
 *
 * Four serial ports, which every kernel of the catalogue drives without a module: ttyS0 the kernel's
 * log, ttyS1 the command's stdout, ttyS2 its stderr, ttyS3 what init itself has to say.
 */
import { posix } from "node:path";
import { printable } from "../../report/printable.ts";
import { LabError } from "../error.ts";
import { INIT_SH } from "../generated/texts.ts";
import { PortBuffer } from "./port-buffer.ts";

/** Where the guest keeps what the lab needs. */
export const LAB = "/lab";

/** In the guest while the machine waits for its work; whoever has read the work removes it. */
export const HELD: string = `${LAB}/held`;

/** The port on which the work comes: a line with its length in bytes, then these. */
export const WORK_PORT = 3;

/** What init says on ttyS3. */
export type Word =
  /** The root is mounted. */
  | { readonly kind: "up" }
  /** It lives; said every few seconds, so that a silent command is not taken for a dead emulator. */
  | { readonly kind: "beat" }
  /** KVM could not be loaded. */
  | { readonly kind: "no-kvm"; readonly why: string }
  /** The machine waits for its work: what it was booted for is prepared, and it may be saved. */
  | { readonly kind: "ready" }
  /** The command runs now. */
  | { readonly kind: "run" }
  /** The command ended, and so many bytes were sent of what it printed. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly stdout: number;
      readonly stderr: number;
    }
  | { readonly kind: "file"; readonly path: string; readonly bytes: Uint8Array }
  | { readonly kind: "missing"; readonly path: string }
  /** The last word: the machine powers off. Without it, it crashed. */
  | { readonly kind: "end" };

/** What init writes to the kernel's log where it finds fewer serial ports. */
export const NO_PORTS = "node-kvm lab: this kernel has no ttyS3";

/** What init.sh has between "@", and what stands there in the guest. */
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

/** How much the guest may say on ttyS3. */
export interface ControlLimits {
  /** Bytes in all, those of the files included. */
  readonly bytes: number;
  /** Bytes of one line; a path may have 4096. */
  readonly line: number;
  readonly lines: number;
  readonly files: number;
}

/** What no guest of ours reaches: an emulated port carries some 500 kB/s, and a beat comes each 5 s. */
const CONTROL_LIMITS: ControlLimits = {
  bytes: 256 * 2 ** 20,
  line: 8192,
  lines: 200_000,
  files: 65_536,
};

/** A file of which bytes are to come. */
interface Unfinished {
  readonly path: string;
  readonly body: PortBuffer;
}

/** How many bytes were understood, and the word that they complete. */
interface Taken {
  readonly taken: number;
  readonly word: Word | undefined;
}

/** Words that are said once at most. */
const ONCE: readonly string[] = ["up", "no-kvm", "ready", "run", "status", "end"];

/**
 * Reads ttyS3 as it comes, and believes nothing: a root process of the guest can write there, too.
 * It holds one unfinished line or file, and the paths of the files that it has returned.
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
   * Begins with the first byte of a boot.
   *
   * @param wanted - the paths that the guest was asked for, as {@link guestPath} writes them; any
   *   path when left out.
   */
  constructor(wanted?: readonly string[], limits: ControlLimits = CONTROL_LIMITS) {
    this.#wanted = wanted;
    this.#limits = limits;
    this.#line = new PortBuffer(limits.line);
  }

  /**
   * Takes what arrived; returns the words that are whole by now.
   *
   * @throws {@link LabError} `ERR_LAB_GUEST` when a word is malformed, comes twice or at a wrong time,
   *   names a path that is not absolute, normalised, printable and asked for, or when it is too much.
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

  /** Returns the file when its last byte is there; an empty one has it at once. */
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
        // A line of noise, such as half a word of a dying guest: no word.
        return undefined;
    }
  }

  #whyNotNow(kind: string): string | undefined {
    if (this.#said.has("end")) return "after its last word";
    if (ONCE.includes(kind) && this.#said.has(kind)) return "for the second time";
    const hasStatus = this.#said.has("status");
    if ((kind === "file" || kind === "missing") && !hasStatus) return "before the command's status";
    // From here on a lost byte could be one of a file.
    if (hasStatus && !KINDS.includes(kind)) return "which is no word";
    return undefined;
  }

  #announced(line: string, length: string, path: string): Unfinished {
    const bytes = countOf(length);
    if (bytes === undefined) throw fault(line, "without a number of bytes");
    if (bytes > this.#limits.bytes) {
      throw fault(line, `of which ${this.#limits.bytes} bytes are the most`);
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
    const why = whyNoPath(path) ?? (this.#isWanted(path) ? undefined : "was not asked for");
    if (why !== undefined) throw fault(line, `which ${why}`);
    return path;
  }

  #isWanted(path: string): boolean {
    if (this.#wanted === undefined) return true;
    return this.#wanted.some((wanted) => isBelow(path, wanted));
  }

  /** What is a file cannot be a folder too. */
  #checkFolders(): void {
    // Sorted so, what is below a path follows it at once.
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

/** Reads a count as the shell writes it; `undefined` for anything else. */
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
    throw fault(line, "which is no exit status and two numbers of bytes");
  }
  return { status, stdout, stderr };
}

/** Says why a path cannot be one that the guest's `find` printed below a normalised path. */
function whyNoPath(path: string): string | undefined {
  if (/[^\P{Cc}\t]/u.test(path)) return "has a control character other than a tab";
  if (!path.startsWith("/")) return "is not absolute";
  if (posix.normalize(path) !== path || path.endsWith("/")) return "is not normalised";
  return undefined;
}

/** Whether a path is another or below it. */
export function isBelow(path: string, other: string): boolean {
  return path === other || path.startsWith(other === "/" ? "/" : `${other}/`);
}

/**
 * Writes a user's path in the guest as the guest will: normalised, without a slash at the end.
 *
 * @throws {@link LabError} `ERR_LAB_FILE` when it is relative or has a control character.
 */
export function guestPath(text: string): string {
  const path = posix.normalize(text).replace(/(?<=.)\/$/, "");
  const why = path === "/" ? undefined : whyNoPath(path);
  if (why === undefined) return path;
  throw new LabError("ERR_LAB_FILE", `the guest path "${printable(text)}" ${why}`);
}

/** A line may be long; what it is can be seen at its beginning. */
const SHOWN = 100;

function fault(line: string, why?: string): LabError {
  const said = line.length > SHOWN ? `${line.slice(0, SHOWN)}…` : line;
  const sentence = why === undefined ? said : `"${printable(said)}" on ttyS3, ${why}`;
  return new LabError("ERR_LAB_GUEST", `the guest wrote ${sentence}`);
}
