/** Reads the standard input of `lab exec`, which is passed to the guest as a whole at boot. */
import { fstatSync } from "node:fs";
import type { Readable } from "node:stream";
import { CommandError, reasonOf } from "./failure.ts";

/** The maximum size in bytes of a guest's standard input; at boot, the machine's memory contains it twice. */
export const MOST_STDIN: number = 64 * 2 ** 20;

/** The time in milliseconds without input after which a notice is printed. */
const NOTICE_MS = 1000;

/** The standard input of the guest's command. */
export interface GuestStdin {
  /** The bytes of standard input; `undefined` if it is empty. */
  readonly bytes: Uint8Array | undefined;
  /** The reason why no standard input is passed, as a message for the user. */
  readonly notice?: string;
}

/** The stream to read: `process.stdin`, or a stream in its place. */
export type Stdin = Readable & { readonly isTTY?: boolean };

/**
 * Reads standard input to its end if it is a file, a pipe or a socket.
 *
 * The input of a terminal is not passed, because the machine gets the whole input before it boots. A device such as
 * `/dev/null` counts as empty, and so does a closed descriptor.
 *
 * @throws {@link CommandError} if it has more than {@link MOST_STDIN} bytes.
 */
export async function readGuestStdin(
  signal: AbortSignal,
  stdin: Stdin = process.stdin,
  fd: number = 0,
): Promise<GuestStdin> {
  if (stdin.isTTY === true) {
    return { bytes: undefined, notice: "the command's standard input is empty, not the terminal" };
  }
  if (!isStream(fd)) return { bytes: undefined };
  const sentence = "node-kvm: reading standard input to its end; use </dev/null to pass none\n";
  const notice = setTimeout(() => process.stderr.write(sentence), NOTICE_MS);
  const chunks: Buffer[] = [];
  let length = 0;
  const stop = (): void => void stdin.destroy();
  signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const chunk of stdin) {
      length += (chunk as Buffer).length;
      if (length > MOST_STDIN) {
        const most = `${MOST_STDIN / 2 ** 20} MiB`;
        throw new CommandError(
          `standard input has more than ${most}; copy a file with --file instead, with enough --memory`,
        );
      }
      chunks.push(chunk as Buffer);
    }
  } catch (error) {
    // An interrupted read is not an error here, because the caller checks the signal.
    if (!signal.aborted) {
      throw new CommandError(`standard input cannot be read: ${reasonOf(error)}`, { cause: error });
    }
  } finally {
    clearTimeout(notice);
    signal.removeEventListener("abort", stop);
  }
  return { bytes: length === 0 ? undefined : Buffer.concat(chunks) };
}

function isStream(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    return stat.isFile() || stat.isFIFO() || stat.isSocket();
  } catch {
    return false; // EBADF: the program that started this process has closed standard input
  }
}
