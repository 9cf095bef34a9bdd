/** The one file that loads the addon, lazily, and says what it looks like. Meanings are kvm/. */
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { packageFolder } from "./package.ts";

/** What fills an address or a descriptor of a struct; `null` is none. */
export type NativeLink =
  | null
  | Uint8Array
  | { readonly memory: NativeMapping; readonly offset: bigint }
  | { readonly bytes: Uint8Array; readonly links: readonly NativeLink[] }
  | NativeFd
  | NativeHostFile;

/** An open KVM file descriptor. Every answer below zero is `-errno`. */
export interface NativeFd {
  /** `pastEnd` lets a count reach beyond the argument, into an unmapped page (EFAULT). */
  ioctl(
    request: number,
    argument?: number | bigint | Uint8Array,
    pastEnd?: boolean,
    links?: readonly NativeLink[],
  ): number | NativeFd | NativeRefusal;
  /** With the last two it is KVM_SET_USER_MEMORY_REGION2. */
  setUserMemoryRegion(
    slot: number,
    flags: number,
    guestPhysAddr: bigint,
    memorySize: bigint,
    memory: NativeMapping | null,
    memoryOffset: bigint,
    guestMemfd?: NativeFd | null,
    guestMemfdOffset?: bigint,
  ): number;
  /** `done` gets the result of each run that was started; `probe` is given in a worker. */
  mapRun(done: (result: number) => void, probe?: () => void): NativeRun | NativeRefusal;
  mapDirtyRing(): ArrayBuffer | number;
  mapMemfd(): NativeMapping | NativeRefusal | number;
  fallocate(mode: number, offset: bigint, length: bigint): number;
  read(position: bigint, length: number): Uint8Array | number;
  close(): void;
}

/** A file that takes no ioctl from us: an eventfd, /dev/sev. */
export interface NativeHostFile {
  readCounter(): bigint | number;
  writeCounter(value: bigint): number;
  /** Calls `readable` in each turn of this thread's event loop in which the counter is above zero. */
  watch(readable: () => void): number;
  unwatch(): void;
  close(): void;
}

/** A vCPU's `kvm_run` and its KVM_RUN, which is bound to that vCPU. */
export interface NativeRun {
  readonly bytes: ArrayBuffer;
  /** What {@link Native.kickVcpu} takes. */
  readonly token: bigint;
  /** On this thread; -EBUSY while it runs elsewhere. */
  run(this: void): number;
  /** On the vCPU's own thread; 0 when it was started. */
  start(this: void): 0 | NativeRefusal;
  /**
   * Ends the run that was started, if it is still under way; a pause gives -512. 0, or tgkill's -errno:
   * then the run goes on, and is to be kicked again.
   */
  kick(this: void, isPause?: boolean): number;
  /**
   * 1: KVM_RUN was called; 2: the guest was entered by it; 4: the last -EINTR of {@link run} came from a
   * signal that nobody sent to end the run.
   */
  history(this: void): number;
  /** Rules of exit-filter.ts; none takes the filter away. -EBUSY while it runs elsewhere. */
  setFilter(this: void, rules: Uint8Array, ring: NativeMapping): number;
}

/** Mapped memory of this process. Windows become empty when it is closed. */
export interface NativeMapping {
  byteLength(): number;
  /** madvise on all of it; only advices that change no content are taken. */
  advise(advice: number): number;
  /** Whether zeros took the place of a page that could not be had (SIGBUS). */
  hasLostPages(): boolean;
  window(offset: number, length: number): ArrayBuffer;
  close(): void;
}

/** Which of several calls the kernel refused; `errno` is positive. */
export interface NativeRefusal {
  readonly call: string;
  readonly errno: number;
}

/** Whether native code answers that a call was refused. */
export function isRefusal(answer: unknown): answer is NativeRefusal {
  return typeof answer === "object" && answer !== null && Object.hasOwn(answer, "errno");
}

/** The process's descriptors: how many may be open, and how many the addon has open. */
export interface NativeDescriptors {
  readonly limit: number;
  readonly own: number;
}

/** What `native/addon.cc` exports. */
export interface Native {
  open(path: string): NativeFd | number;
  eventfd(initval: number, flags: number): NativeHostFile | number;
  openFile(path: string): NativeHostFile | number;
  /** Pages of `1 << pageShift` bytes: 12 when left out, 21 and 30 are huge. */
  mapAnonymous(length: number, pageShift?: number, reserve?: boolean): NativeMapping | number;
  mapMemfd(length: number, pageShift?: number, reserve?: boolean): NativeMapping | NativeRefusal;
  /** A private copy-on-write mapping; to the end of the file without `length`. */
  mapFile(path: string, offset: number, length?: number): NativeMapping | NativeRefusal;
  /** Takes SIGBUS back for lost pages, if another handler has it; 0, or sigaction's -errno. */
  keepBusHandler(): number;
  reqXcompGuestPerm(component: number): number;
  /** Ends the run of a vCPU of any thread, or its next one; false when no open vCPU has this token. */
  kickVcpu(token: bigint): boolean | NativeRefusal;
  /** RLIMIT_NOFILE, and how many descriptors the addon has open in this process. */
  descriptors(): NativeDescriptors | number;
}

let loaded: Native | undefined;

/** What the addon is built for; Node.js has it since 20.19. */
const NODE_API = 8;

/** Says why the addon cannot run in this runtime; `undefined` where it can. */
export function runtimeProblem(
  versions: Readonly<Record<string, string | undefined>>,
): string | undefined {
  // Bun ends the process when an addon calls a function of libuv that it lacks.
  if (versions["bun"] !== undefined) {
    return `node-kvm needs Node.js: Bun ${versions["bun"]} has no libuv for addons`;
  }
  const { napi } = versions;
  if (napi === undefined || Number(napi) >= NODE_API) return undefined;
  return `node-kvm needs Node-API ${NODE_API}; this runtime has ${napi}`;
}

/** Node takes SIGBUS when a listener comes, and leaves it to the default when the last one goes. */
function watchListeners({ keepBusHandler }: Native): void {
  const look = (event: string | symbol): void => {
    if (event !== "SIGBUS" || keepBusHandler() === 0) return;
    process.emitWarning("node-kvm has no SIGBUS handler any more: a lost page ends the process");
  };
  process.on("newListener", look);
  process.on("removeListener", look);
}

const BUILD =
  "it is built by `npm install` on Linux x86-64 with g++, make and python3; " +
  "`npm rebuild node-kvm` builds it again";
const NOT_OURS = "the file is a module, but not this addon";

/** What the loader's own words mean, and what to do; the first row that matches counts. */
const LOAD_FAILURES: readonly (readonly [words: RegExp, meaning: string])[] = [
  [
    /NODE_MODULE_VERSION|did not self-register/,
    `it was built for another version of Node or another ABI; ${BUILD}`,
  ],
  [
    /undefined symbol: node_api|undefined symbol: napi_/,
    "this version of Node lacks a Node-API function that the addon calls; use Node 20.19 or later",
  ],
  [/undefined symbol/, `a symbol is missing, so it was built against other libraries; ${BUILD}`],
  [
    /version `[^']*' not found/,
    `it was built against a newer C or C++ library than this system has; ${BUILD} here`,
  ],
  [
    /ELF|file too short|cannot read file data|not a dynamic|not this addon/,
    `the file is no addon for this machine, or was cut short; ${BUILD}`,
  ],
  [/cannot open shared object file: Permission denied/, "no permission to read the file"],
  [
    /failed to map segment|cannot enable executable|Operation not permitted/,
    "the system does not let the file be mapped as code (a noexec mount, or a limit of memory)",
  ],
  [/cannot open shared object file/, "a shared library that it needs is missing"],
  [/cannot allocate memory/i, "there is not enough memory to map it"],
];

/** Says why the addon could not be loaded, from the loader's error, whose own words end the sentence. */
export function loadFailure(cause: unknown): string {
  const { code, message = String(cause) } = (cause ?? {}) as { code?: string; message?: string };
  if (code === "MODULE_NOT_FOUND") return `it was not built, because no such file exists; ${BUILD}`;
  const [first = ""] = message.split("\n");
  const meaning = LOAD_FAILURES.find(([words]) => words.test(first))?.[1];
  return meaning === undefined ? first : `${meaning} (${first})`;
}

/** The addon cannot be loaded; the message says why and what to do. */
export class AddonError extends Error {
  override readonly name: string = "AddonError";
}

/**
 * Loads the addon on first use; importing this package never does.
 *
 * @throws {@link AddonError} where the runtime is not Node.js, or when the addon was not built or cannot be loaded: the
 *   message says why and what to do. The environment variable
 *   `NODE_KVM_ADDON` names another build (a sanitizer build, say).
 */
export function native(): Native {
  if (loaded === undefined) {
    const problem = runtimeProblem(process.versions);
    if (problem !== undefined) throw new AddonError(problem);
    const built = join(packageFolder(), "build/Release/node_kvm.node");
    const file = resolve(process.env["NODE_KVM_ADDON"] ?? built);
    try {
      const addon = createRequire(import.meta.url)(file) as Native;
      if (typeof addon.mapAnonymous !== "function") throw new TypeError(NOT_OURS);
      watchListeners(addon);
      loaded = addon;
    } catch (cause) {
      throw new AddonError(
        `node-kvm's addon could not be loaded (${file}): ${loadFailure(cause)}`,
        {
          cause,
        },
      );
    }
  }
  return loaded;
}

/**
 * Refuses `new` to programs, which have no object of the addon to give.
 *
 * @param method - one that the addon's object has, and no class of this package.
 * @throws TypeError that says what to use instead.
 */
export function expectNative(
  given: object,
  method: keyof NativeFd | keyof NativeHostFile | keyof NativeMapping,
  made: { readonly name: string },
  how: string,
): void {
  const object = given as Readonly<Record<string, unknown>> | null | undefined;
  if (typeof object?.[method] !== "function") throw new TypeError(`new ${made.name}(): use ${how}`);
}
