/**
 * Saved machines: entries of the cache with the memory and the devices of a booted machine that waits for its work. A
 * restored machine runs after 50 ms. machine.ts decides which machine is saved and passes the work to it; qemu.ts makes
 * QEMU's command line.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream, statSync } from "node:fs";
import { type FileHandle, mkdir, open, readFile } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { cpus } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { CacheEntry, LabCache } from "../cache/cache.ts";
import { sha256 } from "../cache/manifest.ts";
import { LabError } from "../error.ts";
import { runOk } from "../process/command.ts";
import { MEMORY_FILE } from "./qemu.ts";
import type { Monitor } from "./qmp.ts";

/** The files of a saved machine. */
export interface Snapshot {
  /**
   * The file of the machine's memory, which is as large as the memory and may have holes. A restored machine gets a
   * copy of this file.
   */
  readonly ram: string;
  /** The file with the state of the machine's devices. */
  readonly state: string;
  /** The kernel's log from before the machine was saved. */
  readonly log: Buffer;
}

/** The kind of cache entry for saved machines. */
export const SNAPSHOTS = "snapshots";

const RAM = "ram";
const STATE = "state";
const LOG = "log";

/** The maximum size of the devices' state in bytes; QEMU's usual state has 100 kB. */
const MOST_STATE = 64 * 2 ** 20;

/** The inputs on which a saved machine depends. A machine with other inputs is a separate cache entry. */
export interface Ingredients {
  /** The kernel's name, which becomes part of the entry's name. */
  readonly kernel: string;
  /** Files whose content is an input: the kernel and its modules. */
  readonly files: readonly string[];
  /** The other inputs: QEMU's arguments, the root's archives, the command before the machine waits. */
  readonly words: readonly string[];
}

/**
 * Returns the name of the cache entry for a saved machine: its kernel, and a hash of everything on which the machine
 * depends. The hash includes the machine's inputs, QEMU's version, and the id of the host's current boot, because the
 * guest has measured the frequency of the host's TSC.
 */
export async function snapshotName(
  { kernel, files, words }: Ingredients,
  qemu: string,
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash("sha256");
  for (const file of files) hash.update(`${await sha256(file)}\n`);
  const version = (await runOk(qemu, ["--version"], { signal })).toString();
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
  const host = [version, boot, cpus()[0]?.model ?? "", process.version];
  hash.update(JSON.stringify([...words, ...host]));
  return `${plain(kernel)}-${hash.digest("hex").slice(0, 16)}`;
}

/** Converts a kernel's name into the name of a cache entry. */
function plain(kernel: string): string {
  return kernel.replaceAll(/[^\w.+~-]/g, "_").slice(-80);
}

/**
 * Finds a saved machine and compares its files with their checksums.
 *
 * @returns `undefined` if the cache contains no saved machine, or if it was damaged and therefore removed.
 */
export async function findSnapshot(cache: LabCache, name: string): Promise<Snapshot | undefined> {
  try {
    const entry = await cache.find(SNAPSHOTS, name);
    if (entry === undefined) return undefined;
    await cache.verify(entry);
    return await snapshotOf(entry);
  } catch (error) {
    if (!(error instanceof LabError && error.code === "ERR_LAB_DAMAGED")) throw error;
    await cache.remove(SNAPSHOTS, name);
    return undefined;
  }
}

async function snapshotOf({ path }: CacheEntry): Promise<Snapshot> {
  const log = await readFile(join(path, LOG));
  return { ram: join(path, RAM), state: join(path, STATE), log };
}

/** Boots a machine, saves it into the cache's files when it waits for work, and returns its kernel's log. */
export type Saver = (files: { readonly ram: string; readonly state: string }) => Promise<Buffer>;

/**
 * Saves a machine into the cache, and removes saved machines of the same kernel that are more than a day old.
 *
 * @param memory - the machine's memory, MiB.
 * @throws {@link LabError} `ERR_LAB_DISK_FULL` before anything is written, if the disk has no room for twice the
 *   memory: a full disk kills QEMU by a signal.
 */
export async function saveSnapshot(
  cache: LabCache,
  name: string,
  memory: number,
  save: Saver,
  signal?: AbortSignal,
): Promise<Snapshot> {
  const bytes = memory * 2 ** 20;
  await cache.need(2 * bytes + MOST_STATE, "a saved machine");
  const fill = async (folder: string): Promise<Readonly<Record<string, string>>> => {
    const [ram, state] = [join(folder, RAM), join(folder, STATE)];
    const log = await save({ ram, state });
    const kept = await open(join(folder, LOG), "wx", 0o600);
    await kept.writeFile(log).finally(() => kept.close());
    return { memory: `${memory} MiB` };
  };
  const entry = await cache.build(SNAPSHOTS, name, fill, { signal });
  await removeOlder(cache, name);
  return snapshotOf(entry);
}

/** Removes the kernel's other saved machines that are older than a day: most of them belong to old builds. */
async function removeOlder(cache: LabCache, name: string): Promise<void> {
  const kernel = name.slice(0, name.lastIndexOf("-") + 1);
  for (const other of await cache.names(SNAPSHOTS)) {
    if (other === name || other.slice(0, other.lastIndexOf("-") + 1) !== kernel) continue;
    const found = statSync(join(cache.root, SNAPSHOTS, other), { throwIfNoEntry: false });
    if (found !== undefined && Date.now() - found.mtimeMs > DAY_MS) {
      await cache.remove(SNAPSHOTS, other);
    }
  }
}

const DAY_MS = 86_400_000;

/** The pause before a machine is saved; after it, no byte is in transit on the machine's ports. */
const QUIET_MS = 200;
const POLL_MS = 10;
/** The memory is in a separate file, so QEMU does not write it to the stream of the devices. */
const IGNORE_SHARED = { capabilities: [{ capability: "x-ignore-shared", state: true }] };

/** Copies a file; the copy has the same holes if the system's cp supports this. */
async function copy(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
  await runOk("cp", [from, to], { signal });
}

/**
 * Copies a saved machine's memory into the folder of the restored machine, because QEMU opens its memory for writing,
 * but QEMU's user must not be able to change the cache.
 */
export async function copyMemory(
  { ram }: Snapshot,
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  await copy(ram, join(folder, MEMORY_FILE), signal);
}

/** The name of the socket in a machine's folder on which QEMU writes the devices. */
const SOCKET = "state";

/**
 * The open files of a machine while it is saved. While the machine runs, its folder belongs to the emulator's user. All
 * files are therefore created before the start, and no file is opened by its name after the start.
 */
export class MachineToSave implements AsyncDisposable {
  readonly #memory: FileHandle;
  readonly #bytes: number;
  readonly #server: Server;
  readonly #folder: FileHandle;
  /** A promise that resolves when the state of the devices is written. */
  readonly written: Promise<void>;

  private constructor(
    folder: FileHandle,
    memory: FileHandle,
    bytes: number,
    server: Server,
    state: string,
  ) {
    this.#folder = folder;
    this.#memory = memory;
    this.#bytes = bytes;
    this.#server = server;
    this.written = received(server, state);
    // If a monitor command fails, saveDevices() does not await this promise, and a later rejection would be unhandled.
    this.written.catch(() => undefined);
  }

  /**
   * Creates a machine's folder, its memory file, and the socket for the state of its devices.
   *
   * @param memory - the size of the machine's memory, MiB.
   * @param state - the file for the devices.
   */
  static async prepare(path: string, memory: number, state: string): Promise<MachineToSave> {
    await mkdir(path, { mode: 0o700 });
    const bytes = memory * 2 ** 20;
    const folder = await open(path, "r");
    const server = createServer();
    let file: FileHandle | undefined;
    try {
      file = await open(join(path, MEMORY_FILE), "wx+", 0o600);
      await file.truncate(bytes);
      // The path through the folder's descriptor in /proc/self/fd is never too long for a socket.
      server.listen({ path: `/proc/self/fd/${folder.fd}/${SOCKET}`, writableAll: true });
      await once(server, "listening");
      return new MachineToSave(folder, file, bytes, server, state);
    } catch (error) {
      server.close();
      await file?.close();
      await folder.close();
      throw error;
    }
  }

  /**
   * Copies the memory of the machine, which has ended, into the cache. A remaining process of the emulator's user may
   * still write to the original file, but not to the copy.
   */
  async copyMemory(to: string, signal?: AbortSignal): Promise<void> {
    const { size } = await this.#memory.stat();
    if (size !== this.#bytes) {
      const sentence = `the machine's memory has ${size} bytes instead of ${this.#bytes}`;
      throw new LabError("ERR_LAB_TOOL", sentence);
    }
    await copy(`/proc/${process.pid}/fd/${this.#memory.fd}`, to, signal);
  }

  /** Closes the socket and the files. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    await this.#memory.close();
    await this.#folder.close();
  }
}

/** Writes the bytes of the first connection to a file. */
function received(server: Server, file: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("connection", (socket: Socket) => {
      server.on("connection", (other: Socket) => other.destroy());
      const target = createWriteStream(file, { flags: "wx", mode: 0o600 });
      pipeline(socket, limited, target).then(resolve, reject);
    });
  });
}

async function* limited(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let length = 0;
  for await (const piece of source) {
    length += piece.length;
    if (length > MOST_STATE) {
      throw new LabError("ERR_LAB_TOOL", `QEMU wrote more than ${MOST_STATE} bytes of devices`);
    }
    yield piece;
  }
}

/**
 * Saves the state of the devices of a running machine. The machine must not be paused, because a restored machine would
 * also be paused.
 */
export async function saveDevices(monitor: Monitor, { written }: MachineToSave): Promise<void> {
  await sleep(QUIET_MS);
  await monitor.execute("qmp_capabilities");
  await monitor.execute("migrate-set-capabilities", IGNORE_SHARED);
  await monitor.execute("migrate", { uri: `unix:${SOCKET}` });
  await Promise.all([written, completed(monitor)]);
}

async function completed(monitor: Monitor): Promise<void> {
  for (;;) {
    const answer = (await monitor.execute("query-migrate")) as Readonly<Record<string, unknown>>;
    const { status } = answer;
    if (status === "completed") return;
    if (status === "failed" || status === "cancelled") {
      const why = answer["error-desc"] ?? status;
      throw new LabError("ERR_LAB_TOOL", `QEMU could not save the machine: ${why}`);
    }
    await sleep(POLL_MS);
  }
}

/**
 * Loads the devices from one of QEMU's descriptors, and waits until the machine runs. Bytes that are sent to a port
 * before the machine runs are lost, because the loaded state replaces them.
 */
export async function restoreDevices(monitor: Monitor, descriptor: number): Promise<void> {
  await monitor.execute("qmp_capabilities");
  await monitor.execute("migrate-set-capabilities", IGNORE_SHARED);
  await monitor.execute("migrate-incoming", { uri: `fd:${descriptor}` });
  for (;;) {
    const { status } = (await monitor.execute("query-status")) as { readonly status?: unknown };
    if (status === "running") return;
    await sleep(POLL_MS);
  }
}
