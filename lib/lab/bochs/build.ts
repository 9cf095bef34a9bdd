/**
 * Builds Bochs into the cache from Debian's source package. The only code of Bochs in this package is five changed
 * places of its source, without which KVM or its guests do not work.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { type ArchiveAddress, configuredArchive, mirrorArchive } from "../archive/address.ts";
import { Archive } from "../archive/archive.ts";
import type { LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";
import { runOk } from "../process/command.ts";
import { onPath } from "../process/search-path.ts";
import { BUILT } from "./parts.ts";

/** The options of the build. */
export interface BuildBochsOptions {
  /** The package archive, `http://HOST/debian`; by default, the archive that this machine's apt uses. */
  readonly mirror?: string | undefined;
  /** Whether to rebuild an existing Bochs. */
  readonly rebuild?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** A function that is called with a description of each step. */
  readonly onStep?: ((step: string) => void) | undefined;
  /** The source of Bochs; by default, Debian's source package. */
  readonly source?: typeof SOURCE | undefined;
}

/** The name of the source package in Debian, and its checksum. */
const SOURCE = {
  name: "bochs",
  version: "3.0+dfsg-1",
  suite: "trixie",
  file: "bochs_3.0+dfsg.orig.tar.xz",
  sha256: "78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b" as string,
} as const;

/** One change of the source. */
export interface SourceFix {
  readonly file: string;
  /** The text that is replaced, which matches in exactly one place. */
  readonly find: RegExp;
  readonly put: string;
  readonly why: string;
}

const IF_ZERO =
  "a guest that runs with EFLAGS.IF clear is never left for an external interrupt: " +
  "the interrupt mask is computed before the CPU is in guest mode";

/** All changes of Bochs's source; their order does not matter. */
export const FIXES: readonly SourceFix[] = [
  {
    file: "cpu/vmx.cc",
    find: /^ {2}BX_CPU_THIS_PTR in_vmx_guest = (?:true|1);$/m,
    put: "$&\n  handleInterruptMaskChange();",
    why: IF_ZERO,
  },
  {
    file: "cpu/svm.cc",
    find: /^ {2}BX_CPU_THIS_PTR in_svm_guest = (?:true|1);$/m,
    put: "$&\n  handleInterruptMaskChange();",
    why: IF_ZERO,
  },
  {
    file: "cpu/flag_ctrl_pro.cc",
    // The changed line is in the branch for a guest with virtual interrupt masking (SVM_V_INTR_MASKING).
    find: /(?<=in_svm_guest && SVM_V_INTR_MASKING\) \{\n(?:(?! {2}\}).*\n){0,8}) {5}mask_event\(BX_EVENT_SVM_VIRQ_PENDING\);$/m,
    put: "     if (SVM_HOST_IF) unmask_event(BX_EVENT_PENDING_INTR | BX_EVENT_PENDING_LAPIC_INTR);\n$&",
    why: IF_ZERO,
  },
  {
    file: "cpu/vmx.cc",
    find: /! IsValidPageAlignedPhyAddr\(vm->pid_addr\)/,
    put: "! IsValidPhyAddr(vm->pid_addr) || (vm->pid_addr & 0x3f)",
    why: "the posted-interrupt descriptor is aligned to 64 bytes, not to a page",
  },
  {
    file: "cpu/xsave.cc",
    find: /^ {8}if \(format & feature_mask\)\n {10}(offset \+= xsave_restore\[feature\]\.len;)\n {6}\}$/m,
    put: "      }\n\n      if (format & feature_mask)\n        $1",
    why:
      "XRSTORS reads a component from a wrong place if the area also has a lower component that is not restored, " +
      "such as PKRU: a guest then loses its CET state",
  },
];

const CONFIGURE = [
  ...["--enable-cpu-level=6", "--enable-x86-64", "--enable-vmx=2", "--enable-svm"],
  ...["--enable-avx", "--enable-evex", "--enable-cet", "--enable-protection-keys"],
  ...["--enable-memtype", "--enable-pci", "--enable-all-optimizations"],
  ...["--enable-repeat-speedups", "--enable-fast-function-calls", "--enable-handlers-chaining"],
  // A Bochs with one CPU and without a debugger is twice as fast. Without a display, Bochs needs no terminal.
  ...["--disable-docbook", "--disable-plugins", "--with-nogui"],
  ...["CXXFLAGS=-O3 -fomit-frame-pointer", "CFLAGS=-O3"],
];

/** The programs and headers that a build needs, each with its Debian package. */
const TOOLS = {
  "g++": "g++",
  make: "make",
  tar: "tar",
  xz: "xz-utils",
  strip: "binutils",
} as const;

/**
 * Builds Bochs if the cache does not contain it; returns the path of the program. A build takes about two minutes.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` with the name of a missing package; `ERR_LAB_DAMAGED` if the source is
 *   not the one that the fixes are for.
 */
export async function buildBochs(
  cache: LabCache,
  options: BuildBochsOptions = {},
): Promise<string> {
  const { signal, onStep, rebuild } = options;
  const found = rebuild === true ? "damaged" : await cache.findIntact(BUILT.kind, BUILT.name);
  if (found !== undefined && found !== "damaged") return join(found.path, BUILT.program);
  needTools();
  const source = options.source ?? SOURCE;
  await using _lock = await cache.lock("build-bochs", signal);
  await using scratch = await cache.scratch();
  onStep?.(`fetches ${source.name} ${source.version} from the package archive`);
  const archive = new Archive(cache, await addressOf(options));
  const tarball = await archive.source(source, scratch.path, signal);
  const tree = join(scratch.path, "source");
  await mkdir(tree);
  await runOk("tar", ["-xf", tarball, "-C", tree, "--strip-components=1"], { signal });
  await rm(tarball);
  await fixTree(tree);
  onStep?.("configures");
  await runOk("./configure", CONFIGURE, { cwd: tree, signal });
  onStep?.("compiles; this takes about two minutes");
  await runOk("make", [`-j${availableParallelism()}`, "bochs"], { cwd: tree, signal });
  const fill = async (folder: string): Promise<Record<string, string>> => {
    const program = join(folder, BUILT.program);
    await runOk("strip", ["-o", program, join(tree, "bochs")], { signal });
    return { source: source.file, sha256: source.sha256, fixes: String(FIXES.length) };
  };
  const entry = await cache.build(BUILT.kind, BUILT.name, fill, {
    signal,
    replace: found === "damaged",
  });
  return join(entry.path, BUILT.program);
}

/** Applies every change to the files of a source tree. */
export async function fixTree(tree: string): Promise<void> {
  for (const fix of FIXES) {
    const path = join(tree, fix.file);
    await writeFile(path, applyFix(await readFile(path, "utf8"), fix));
  }
}

/**
 * Applies one change to a file's text.
 *
 * @throws {@link LabError} `ERR_LAB_DAMAGED` unless exactly one place matches.
 */
export function applyFix(text: string, fix: SourceFix): string {
  const places = Array.from(text.matchAll(new RegExp(fix.find, `${fix.find.flags}g`)));
  if (places.length === 1) return text.replace(fix.find, fix.put);
  const sentence = `${fix.file} has ${places.length} places, not one, for the fix of: ${fix.why}`;
  throw new LabError("ERR_LAB_DAMAGED", sentence);
}

function needTools(): void {
  for (const [program, name] of Object.entries(TOOLS)) {
    if (onPath(program) !== undefined) continue;
    const sentence = `building Bochs needs ${program}; install it: apt-get install ${name}`;
    throw new LabError("ERR_LAB_TOOL", sentence);
  }
}

async function addressOf({ mirror, signal }: BuildBochsOptions): Promise<ArchiveAddress> {
  return mirror === undefined ? configuredArchive(signal) : mirrorArchive(mirror);
}
