/** A file that a command writes: opened before the work, written aside, renamed when it is whole. */
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
import { basename, dirname, join, resolve } from "node:path";
import { CommandError, reasonOf } from "./failure.ts";

/**
 * An open output. Until {@link commit} the file that was there before keeps its content.
 *
 * What cannot be replaced by a rename is written in place: a device, a pipe, or a file in a folder
 * that this user cannot change.
 */
export class OutputFile {
  readonly #option: string;
  readonly #path: string;
  /** The file beside the path; `undefined` when the path itself is open. */
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
   * @throws {@link CommandError} when the file cannot be written.
   */
  static open(option: string, name: string): OutputFile {
    try {
      const path = realPath(resolve(name));
      const found = statSync(path, { throwIfNoEntry: false });
      if (found !== undefined) accessSync(path, constants.W_OK);
      if (found !== undefined && !(found.isFile() && isWritable(dirname(path)))) {
        return new OutputFile(option, path, undefined, openSync(path, constants.O_WRONLY));
      }
      const aside = join(dirname(path), `.${basename(path)}.${process.pid}.part`);
      const fd = openSync(aside, "wx", found?.mode ?? 0o666);
      // The file that is replaced keeps its permissions, whatever the umask.
      if (found !== undefined) fchmodSync(fd, found.mode);
      return new OutputFile(option, path, aside, fd);
    } catch (error) {
      throw new CommandError(`${option}: ${name} cannot be written: ${reasonOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Appends to the file. @throws {@link CommandError} when it cannot be written, such as on a full disk. */
  write(text: string): void {
    this.#try((fd) => {
      // A file that is written in place loses its content no earlier than it must.
      if (!this.#isBegun && this.#aside === undefined && fstatSync(fd).isFile()) ftruncateSync(fd);
      this.#isBegun = true;
      const bytes = Buffer.from(text);
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    });
  }

  /** Ends writing and puts the file in its place. @throws {@link CommandError} when that fails. */
  commit(): void {
    this.#try((fd) => {
      if (this.#aside === undefined) return;
      fsyncSync(fd);
      renameSync(this.#aside, this.#path);
    });
    this.#close();
  }

  /** Ends writing and leaves what was there before; does nothing after {@link commit}. */
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
    if (this.#fd === undefined) throw new TypeError(`${this.#option} was closed before`);
    try {
      work(this.#fd);
    } catch (error) {
      const sentence = `${this.#option}: ${this.#path} cannot be written: ${reasonOf(error)}`;
      throw new CommandError(sentence, { cause: error });
    }
  }
}

/** Follows links, so that a link stays one when its file is replaced. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // there is nothing yet; opening it says what is wrong with the folder
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
 * Writes a report to its file, or to standard output when there is none.
 *
 * When the file cannot be written, the report goes to standard output and the reason to standard error.
 * @returns whether the report is where it was wanted.
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
