/**
 * Writes a file of a command: the file is opened before the work, written under a temporary name, and renamed when it
 * is complete.
 */
import { randomBytes } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { CommandError, reasonOf } from "./failure.ts";

/**
 * An open output file. Until {@link commit}, the content of an existing file at the path stays unchanged.
 *
 * A path that cannot be replaced by a rename is written in place: a device, a pipe, or a file in a folder that this
 * user cannot change.
 */
export class OutputFile {
  readonly #option: string;
  readonly #path: string;
  /** The temporary file in the folder of the path; `undefined` if the path itself is open. */
  readonly #aside: string | undefined;
  #fd: number | undefined;
  #isBegun: boolean = false;
  readonly #onExit = (): void => this.discard();

  private constructor(option: string, path: string, aside: string | undefined, fd: number) {
    this.#option = option;
    this.#path = path;
    this.#aside = aside;
    this.#fd = fd;
    process.once("exit", this.#onExit);
  }

  /**
   * Opens the file that an option names.
   *
   * @param option - the option's name, for errors: `--output`.
   * @throws {@link CommandError} if the file cannot be written.
   */
  static open(option: string, name: string): OutputFile {
    try {
      const path = realPath(resolve(name));
      const found = statSync(path, { throwIfNoEntry: false });
      if (found !== undefined) accessSync(path, constants.W_OK);
      if (found !== undefined && !(found.isFile() && isWritable(dirname(path)))) {
        return new OutputFile(option, path, undefined, openSync(path, constants.O_WRONLY));
      }
      const aside = join(dirname(path), `.node-kvm-${randomBytes(8).toString("hex")}.part`);
      const fd = openSync(aside, "wx", found?.mode ?? 0o666);
      // The new file gets the permissions of the replaced file, regardless of the umask.
      if (found !== undefined) fchmodSync(fd, found.mode);
      return new OutputFile(option, path, aside, fd);
    } catch (error) {
      throw new CommandError(`${option}: ${name} cannot be written: ${reasonOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Appends to the file. @throws {@link CommandError} if it cannot be written, for example on a full disk. */
  write(text: string | Uint8Array): void {
    this.#try((fd) => {
      // A file that is written in place is truncated as late as possible.
      if (!this.#isBegun && this.#aside === undefined && fstatSync(fd).isFile()) ftruncateSync(fd);
      this.#isBegun = true;
      const bytes = typeof text === "string" ? Buffer.from(text) : text;
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    });
  }

  /** Completes the file and renames it. @throws {@link CommandError} if that fails. */
  commit(): void {
    this.#try((fd) => {
      if (this.#aside === undefined) return;
      fsyncSync(fd);
      renameSync(this.#aside, this.#path);
    });
    this.#close();
  }

  /** Abandons the new file, so the old content stays; does nothing after {@link commit}. */
  discard(): void {
    if (this.#fd === undefined) return;
    this.#close();
    if (this.#aside !== undefined) rmSync(this.#aside, { force: true });
  }

  #close(): void {
    process.off("exit", this.#onExit);
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #try(work: (fd: number) => void): void {
    if (this.#fd === undefined) throw new TypeError(`${this.#option} has already been closed`);
    try {
      work(this.#fd);
    } catch (error) {
      const sentence = `${this.#option}: ${this.#path} cannot be written: ${reasonOf(error)}`;
      throw new CommandError(sentence, { cause: error });
    }
  }
}

/** The path is resolved, because a link must stay when its target file is replaced. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // the file does not exist yet; opening it reports problems of the folder
  }
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Writes a report to its file, or to standard output if there is none.
 *
 * If the file cannot be written, the report goes to standard output and the reason to standard error.
 *
 * @returns whether the report was written to its destination.
 */
export function saveReport(text: string, file: OutputFile | undefined): boolean {
  if (file === undefined) {
    process.stdout.write(text);
    return true;
  }
  try {
    file.write(text);
    file.commit();
    return true;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    file.discard();
    process.stderr.write(`node-kvm: ${error.message}; the report goes to standard output\n`);
    process.stdout.write(text);
    return false;
  }
}
