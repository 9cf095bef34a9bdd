/**
 * A client of QEMU's monitor protocol (docs/interop/qmp-spec), which has one line of JSON per message. snapshot.ts
 * sends the commands.
 */
import type { Duplex } from "node:stream";
import { LabError } from "../error.ts";

interface Waiting {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: LabError) => void;
}

/** The maximum length of a line; QEMU's replies to the lab's commands are shorter. */
const LONGEST_LINE = 2 ** 20;

/** The connection to one QEMU, which replies to commands in order. */
export class Monitor {
  readonly #stream: Duplex;
  readonly #waiting: Waiting[] = [];
  #rest = "";
  #ended: boolean = false;

  /** Uses an open connection, whether QEMU's greeting has arrived or not. */
  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("data", (bytes: Buffer) => this.#push(bytes.toString()));
    // If QEMU is killed, the connection is reset; this is handled like the end of the connection.
    stream.on("error", () => this.#end());
    stream.once("close", () => this.#end());
  }

  /**
   * Sends a command and waits for the reply.
   *
   * @throws {@link LabError} `ERR_LAB_TOOL` if QEMU rejects it, or ends before it answers.
   */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(gone(command));
      this.#waiting.push({ command, resolve, reject });
      const message = { execute: command, ...(args === undefined ? {} : { arguments: args }) };
      this.#stream.write(`${JSON.stringify(message)}\n`);
    });
  }

  #push(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > LONGEST_LINE) this.#break();
    for (const line of lines) if (line.trim() !== "") this.#take(line);
  }

  /** Processes a reply of QEMU; ignores the greeting and events. A line that is not a message ends the connection. */
  #take(line: string): void {
    const message = parse(line);
    if (message === undefined) {
      this.#break();
      return;
    }
    if (message.return === undefined && message.error === undefined) return;
    const waiting = this.#waiting.shift();
    if (message.error === undefined) waiting?.resolve(message.return);
    else waiting?.reject(refused(waiting.command, message.error.desc ?? line));
  }

  #break(): void {
    this.#rest = "";
    this.#stream.destroy();
    this.#end();
  }

  #end(): void {
    this.#ended = true;
    for (const { command, reject } of this.#waiting.splice(0)) reject(gone(command));
  }
}

interface Message {
  readonly return?: unknown;
  readonly error?: { readonly desc?: string };
}

function parse(line: string): Message | undefined {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === "object" && message !== null ? message : undefined;
  } catch {
    return undefined; // the caller ends the connection because of this error
  }
}

function refused(command: string, why: string): LabError {
  return new LabError("ERR_LAB_TOOL", `QEMU refused ${command}: ${why}`);
}

function gone(command: string): LabError {
  return new LabError("ERR_LAB_TOOL", `QEMU ended before it answered ${command}`);
}
