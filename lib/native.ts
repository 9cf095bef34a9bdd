/**
 * Loads the addon at its first use, and declares the interface of the addon. Only this file loads the addon. kvm/ calls
 * the addon's functions.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { AddonError } from "./errors.ts";
import { addonPlace, addonPlaces, cLibrary, packageFolder } from "./package.ts";

/** The value for an address or a descriptor in a struct; `null` is address 0 or descriptor -1. */
export type NativeLink =
  | null
  | Uint8Array
  | { readonly memory: NativeMapping; readonly offset: bigint }
  | { readonly bytes: Uint8Array; readonly links: readonly NativeLink[] }
  | NativeFd
  | NativeHostFile;

/** An open KVM file descriptor. A result below zero is `-errno`. */
export interface NativeFd {
  /** `pastEnd` allows a count beyond the argument's end, where an unmapped page causes EFAULT. */
  ioctl(
    request: number,
    argument?: number | bigint | Uint8Array,
    pastEnd?: boolean,
    links?: readonly NativeLink[],
  ): number | NativeFd | NativeRefusal;
  /** Issues KVM_SET_USER_MEMORY_REGION, or with the last two arguments KVM_SET_USER_MEMORY_REGION2. */
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
  /** `done` is called with the result of each started run. In a worker, `probe` is required. */
  mapRun(done: (result: number) => void, probe?: () => void): NativeRun | NativeRefusal;
  mapDirtyRing(): ArrayBuffer | number;
  mapMemfd(): NativeMapping | NativeRefusal | number;
  fallocate(mode: number, offset: bigint, length: bigint): number;
  read(position: bigint, length: number): Uint8Array | number;
  close(): void;
}

/** A file on which this package makes no ioctl: an eventfd, /dev/sev. */
export interface NativeHostFile {
  readCounter(): bigint | number;
  writeCounter(value: bigint): number;
  /** Calls `readable` in each turn of this thread's event loop in which the counter is above zero. */
  watch(readable: () => void): number;
  unwatch(): void;
  close(): void;
}

/** A vCPU's mapped `kvm_run`, and KVM_RUN bound to that vCPU. */
export interface NativeRun {
  readonly bytes: ArrayBuffer;
  /** The argument of {@link Native.kickVcpu}. */
  readonly token: bigint;
  /** Calls KVM_RUN on this thread; returns -EBUSY while the vCPU runs on another thread. */
  run(this: void): number;
  /** Starts a run on the vCPU's own thread; returns 0 if the run was started. */
  start(this: void): 0 | NativeRefusal;
  /**
   * Interrupts the started run if the run is still in progress; a pause makes the run return -512. Returns 0, or
   * tgkill's -errno: the run then continues, and the caller must kick again.
   */
  kick(this: void, isPause?: boolean): number;
  /**
   * Bit 0 (1): KVM_RUN was called. Bit 1 (2): KVM_RUN has entered the guest. Bit 2 (4): the last -EINTR of {@link run}
   * was caused by a signal that is not a kick.
   */
  history(this: void): number;
  /**
   * Sets the rules of exit-filter.ts; an empty array removes the filter. Returns -EBUSY while the vCPU runs on another
   * thread.
   */
  setFilter(this: void, rules: Uint8Array, ring: NativeMapping): number;
}

/** Mapped memory of this process. When the mapping is closed, its windows become empty. */
export interface NativeMapping {
  byteLength(): number;
  /** Calls madvise for the whole mapping; accepts only advice that does not change the content. */
  advise(advice: number): number;
  /** Whether a page was lost (SIGBUS) and replaced by zeros. */
  hasLostPages(): boolean;
  window(offset: number, length: number): ArrayBuffer;
  close(): void;
}

/** Reports which system call failed, if a function makes several; `errno` is positive. */
export interface NativeRefusal {
  readonly call: string;
  readonly errno: number;
}

/** Whether a result of native code reports a failed call. */
export function isRefusal(answer: unknown): answer is NativeRefusal {
  return typeof answer === "object" && answer !== null && Object.hasOwn(answer, "errno");
}

/** The process's limit of open descriptors, and the number of descriptors that the addon has open. */
export interface NativeDescriptors {
  readonly limit: number;
  readonly own: number;
}

/** The exports of `native/addon.cc`. */
export interface Native {
  open(path: string): NativeFd | number;
  eventfd(initval: number, flags: number): NativeHostFile | number;
  openFile(path: string): NativeHostFile | number;
  /** Maps pages of `1 << pageShift` bytes. `pageShift` is 12 if omitted; 21 and 30 are huge pages. */
  mapAnonymous(length: number, pageShift?: number, reserve?: boolean): NativeMapping | number;
  mapMemfd(length: number, pageShift?: number, reserve?: boolean): NativeMapping | NativeRefusal;
  /** Maps a file privately (copy on write); without `length`, the mapping ends at the end of the file. */
  mapFile(path: string, offset: number, length?: number): NativeMapping | NativeRefusal;
  /**
   * Installs the SIGBUS handler for lost pages again if another handler has replaced this handler. Returns 0, or
   * sigaction's -errno.
   */
  keepBusHandler(): number;
  reqXcompGuestPerm(component: number): number;
  /** Executes CPUID on the CPU of this thread; writes eax, ebx, ecx and edx into 16 bytes. */
  hostCpuid(fn: number, index: number, registers: Uint8Array): void;
  /**
   * Interrupts the current run of a vCPU on any thread, or its next run if no run is in progress. Returns false if no
   * open vCPU has this token.
   */
  kickVcpu(token: bigint): boolean | NativeRefusal;
  /** Returns RLIMIT_NOFILE, and the number of descriptors that the addon has open in this process. */
  descriptors(): NativeDescriptors | number;
}

let loaded: Native | undefined;

/** The Node-API version for which the addon is built. Node.js supports this version since 20.19. */
const NODE_API = 8;

/** Returns the reason why the addon cannot run in this runtime; `undefined` if the addon can run. */
export function runtimeProblem(
  versions: Readonly<Record<string, string | undefined>>,
): string | undefined {
  // If an addon calls a function of libuv that Bun does not have, Bun aborts the process.
  if (versions["bun"] !== undefined) {
    return `node-kvm needs Node.js: Bun ${versions["bun"]} has no libuv for addons`;
  }
  const { napi } = versions;
  if (napi === undefined || Number(napi) >= NODE_API) return undefined;
  return `node-kvm needs Node-API ${NODE_API}; this runtime has ${napi}`;
}

/**
 * Restores the SIGBUS handler: Node replaces the handler when a listener is added, and resets it when the last listener
 * is removed.
 */
function watchListeners({ keepBusHandler }: Native): void {
  const look = (event: string | symbol): void => {
    if (event !== "SIGBUS" || keepBusHandler() === 0) return;
    process.emitWarning("node-kvm has no SIGBUS handler any more: a lost page ends the process");
  };
  process.on("newListener", look);
  process.on("removeListener", look);
}

const REMEDY = "install node-kvm again or, in a clone, run `npm run build:native`";
const NOT_OURS = "the file is a module, but not this addon, or another version of this addon";
const CUT = `the file is damaged: its end is missing; ${REMEDY}`;

/** All functions of {@link Native}. An addon of another version may not have all of them. */
const FUNCTIONS: Readonly<Record<keyof Native, true>> = {
  open: true,
  eventfd: true,
  openFile: true,
  mapAnonymous: true,
  mapMemfd: true,
  mapFile: true,
  keepBusHandler: true,
  reqXcompGuestPerm: true,
  hostCpuid: true,
  kickVcpu: true,
  descriptors: true,
};

function isOurs(addon: unknown): boolean {
  const exported = Object(addon) as Readonly<Record<string, unknown>>;
  return Object.keys(FUNCTIONS).every((name) => typeof exported[name] === "function");
}

/** The meanings of the loader's messages, with remedies. The first matching row applies. */
const LOAD_FAILURES: readonly (readonly [words: RegExp, meaning: string])[] = [
  [
    /NODE_MODULE_VERSION|did not self-register/,
    `the addon was built for another version of Node or another ABI; ${REMEDY}`,
  ],
  // For an addon for musl, glibc finds no file with the name of musl's library, or a linker script. For an addon for
  // glibc, musl does not find glibc's loader.
  [
    /libc\.so: (invalid ELF header|cannot open)/,
    "the addon was built for musl, but this Node uses glibc",
  ],
  [
    /Error loading shared library ld-linux-x86-64\.so/,
    "the addon was built for glibc, but this Node uses musl",
  ],
  [
    /(undefined symbol: |Error relocating .*: )(node_api|napi)_/,
    "this version of Node lacks a Node-API function that the addon calls; use Node 20.19 or later",
  ],
  [
    /undefined symbol|Error relocating .*: symbol not found/,
    `a symbol is missing, so the addon was built against other libraries; ${REMEDY}`,
  ],
  [
    /version `[^']*' not found/,
    `the addon was built against a newer C or C++ library than this system has; ${REMEDY} here`,
  ],
  [
    /ELF|file too short|cannot read file data|not a dynamic|Exec format error/,
    `the file is damaged; ${REMEDY}`,
  ],
  [/cannot open shared object file: Permission denied/, "no permission to read the file"],
  [
    /failed to map segment|cannot enable executable|Operation not permitted/,
    "the system does not allow mapping the file as code (a noexec mount, or a limit of memory)",
  ],
  [
    /cannot open shared object file|Error loading shared library/,
    "a shared library that the addon needs is missing",
  ],
  [/cannot allocate memory/i, "there is not enough memory to map the addon"],
];

/**
 * Returns the fault that the first bytes of a file show; `undefined` if they show no fault. The loader's messages are
 * not sufficient: glibc reports a file for another machine as a file that does not exist.
 */
export function headerProblem(header: Uint8Array): string | undefined {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const [ELF, CLASS_64, X86_64] = [0x7f454c46, 2, 62];
  if (header.length < 20 || view.getUint32(0) !== ELF) {
    return `the file is damaged or no library; ${REMEDY}`;
  }
  const [bits, machine] = [view.getUint8(4), view.getUint16(18, true)];
  if (bits === CLASS_64 && machine === X86_64) return undefined;
  return `the addon was built for another architecture (ELF machine ${machine}); this is x86-64 (${X86_64})`;
}

/**
 * Whether an ELF file ends before its section headers, which linkers write last. The loader does not check this: the
 * process ends with SIGBUS at an access to a page that the file does not have.
 */
function isCut(header: Uint8Array, size: number): boolean {
  if (headerProblem(header) !== undefined || header.length < HEADER_BYTES) return false;
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const [each, count] = [view.getUint16(58, true), view.getUint16(60, true)];
  return view.getBigUint64(40, true) + BigInt(each * count) > BigInt(size);
}

/** The size of a 64-bit ELF header in bytes. */
const HEADER_BYTES = 64;

/**
 * Returns the first bytes of a file, and whether the end of the file is missing; `undefined` if the file cannot be
 * read.
 */
function readHeader(file: string): { header: Uint8Array; isCut: boolean } | undefined {
  try {
    const descriptor = openSync(file, "r");
    try {
      const bytes = new Uint8Array(HEADER_BYTES);
      const header = bytes.subarray(0, readSync(descriptor, bytes));
      return { header, isCut: isCut(header, fstatSync(descriptor).size) };
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return undefined; // the loader's message has the reason
  }
}

/** Returns the reason why a file could not be loaded, followed by the loader's message. */
export function loadFailure(cause: unknown, file?: string): string {
  const { code, message = String(cause) } = (cause ?? {}) as { code?: string; message?: string };
  const [first = ""] = message.split("\n");
  const isLibrary = code === "ERR_DLOPEN_FAILED" && file !== undefined;
  const header = isLibrary ? readHeader(file)?.header : undefined;
  const meaning =
    (header === undefined ? undefined : headerProblem(header)) ??
    LOAD_FAILURES.find(([words]) => words.test(first))?.[1];
  return meaning === undefined ? first : `${meaning} (${first})`;
}

/**
 * Returns the file of the addon: the value of NODE_KVM_ADDON, or the first of {@link addonPlaces} that exists.
 *
 * @throws {@link AddonError} if no such file exists, or if this system is not Linux on x86-64.
 */
function addonFile(): string {
  const { platform, arch } = process;
  if (platform !== "linux" || arch !== "x64") {
    throw new AddonError(`node-kvm's addon needs Linux on x86-64; this is ${platform} on ${arch}`);
  }
  const named = process.env["NODE_KVM_ADDON"];
  if (named !== undefined && named !== "") {
    const exists = existsSync(named);
    // Only a regular file is accepted, because reading a FIFO or a device may never end.
    if (exists && statSync(named).isFile()) return resolve(named);
    const problem = exists ? "which is no regular file" : "which does not exist";
    const reason = `NODE_KVM_ADDON names this file, ${problem}`;
    throw new AddonError(`node-kvm's addon could not be loaded (${resolve(named)}): ${reason}`);
  }
  const folder = packageFolder();
  const place = addonPlace();
  if (place !== undefined) return join(folder, place);
  const reason = `neither ${addonPlaces().join(" nor ")} exists (linux, x64, ${cLibrary()})`;
  throw new AddonError(`node-kvm's addon could not be loaded (${folder}): ${reason}; ${REMEDY}`);
}

/**
 * Loads the addon at its first use; importing this package does not load the addon.
 *
 * @throws {@link AddonError} if the runtime is not Node.js, if the system is not Linux on x86-64, or if the addon does
 *   not exist or cannot be loaded. The message has the cause and the remedy. The environment variable `NODE_KVM_ADDON`
 *   selects another build, such as the sanitizer build.
 */
export function native(): Native {
  if (loaded === undefined) {
    const problem = runtimeProblem(process.versions);
    if (problem !== undefined) throw new AddonError(problem);
    const file = addonFile();
    try {
      if (readHeader(file)?.isCut === true) throw new TypeError(CUT);
      const addon = createRequire(import.meta.url)(file) as Native;
      if (!isOurs(addon)) throw new TypeError(NOT_OURS);
      watchListeners(addon);
      loaded = addon;
    } catch (cause) {
      const reason = loadFailure(cause, file);
      throw new AddonError(`node-kvm's addon could not be loaded (${file}): ${reason}`, { cause });
    }
  }
  return loaded;
}

/**
 * Throws if a program has called `new`: only this package can pass the constructor an object of the addon.
 *
 * @param method - the name of a method that the addon's object has, and that no class of this package has.
 * @throws TypeError that names the method to use instead.
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
