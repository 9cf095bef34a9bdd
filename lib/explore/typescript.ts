/** Prints a sequence as a TypeScript program that makes the same calls with the API of `node-kvm`. */
import type { CpuidEntry2 } from "../cpuid/index.ts";
import { freshVm, type LifecycleModel, type LifecycleOperation } from "../oracle/index.ts";
import { concrete, type Sequence, VCPUS } from "./operation.ts";
import { formatAnswer } from "./wording.ts";

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

const MEMBERS = ["function", "index", "flags", "eax", "ebx", "ecx", "edx"] as const;

/** The most entries that are printed as changes of the supported table. */
const MOST_CHANGES = 6;

function members(entry: CpuidEntry2, base?: CpuidEntry2): string {
  const names = MEMBERS.filter((name) => (base?.[name] ?? 0) !== entry[name]);
  const words = names.map((name) => `${name}: ${hex(entry[name])}`);
  const isPadded = entry.padding.some((word, i) => word !== (base?.padding[i] ?? 0));
  return [...words, ...(isPadded ? [`padding: [${entry.padding.map(hex).join(", ")}]`] : [])].join(
    ", ",
  );
}

/** Prints a table as changes of the supported table, or as a list of entries. */
function tableText(entries: readonly CpuidEntry2[], supported: readonly CpuidEntry2[]): string {
  const common = entries.slice(0, supported.length);
  const changes = common.flatMap((entry, i) => {
    const base = supported[i];
    const text = base === undefined || base === entry ? "" : members(entry, base);
    return text === "" ? [] : [`  ${i}: { ${text} },`];
  });
  const added = entries.slice(supported.length);
  if (
    common.length < supported.length ||
    changes.length > MOST_CHANGES ||
    added.length > MOST_CHANGES
  ) {
    return `[\n${entries.map((entry) => `  { function: 0, ${members(entry)} },`).join("\n")}\n]`;
  }
  const base = changes.length === 0 ? "supported" : `changed({\n${changes.join("\n")}\n})`;
  if (added.length === 0) return base;
  return `[...${base}, ${added.map((entry) => `{ function: 0, ${members(entry)} }`).join(", ")}]`;
}

const SNIPPET_NAMES = { io: "io", internalError: "nothing" } as const;
const CR4_MASKS = { osxsave: "1n << 18n", pke: "1n << 22n" } as const;

/** Prints the statement of one operation. */
function statement(operation: LifecycleOperation, supported: readonly CpuidEntry2[]): string {
  if (operation.call === "disableHltExits") {
    return 'vm.enableCap({ cap: "KVM_CAP_X86_DISABLE_EXITS", args: [2n] })';
  }
  if (operation.call === "disableMwaitQuirk") {
    return 'vm.enableCap({ cap: "KVM_CAP_DISABLE_QUIRKS2", args: [16n] })';
  }
  const vcpu = `vcpu${operation.vcpu}`;
  switch (operation.call) {
    case "setCpuid2":
    case "setCpuid": {
      const table = tableText(operation.entries, supported);
      return operation.call === "setCpuid2"
        ? `${vcpu}.setCpuid2(${table})`
        : `${vcpu}.setCpuid(${table}.map(({ function: f, eax, ebx, ecx, edx }) => ({ function: f, eax, ebx, ecx, edx })))`;
    }
    case "getCpuid2":
      return `${vcpu}.getCpuid2(${operation.room})`;
    case "run":
      if (operation.how === "immediateExit") return `immediateExit(${vcpu})`;
      if (operation.how === "tripleFault") return `tripleFault(${vcpu})`;
      return `run(${vcpu}, "${SNIPPET_NAMES[operation.how]}")`;
    case "guestCpuid":
      return `cpuid(${vcpu}, ${hex(operation.function)}, ${operation.index})`;
    case "cr4":
      return `toggleCr4(${vcpu}, "${operation.by}", ${CR4_MASKS[operation.bit]})`;
    case "xcr0":
      return `setXcr0(${vcpu}, ${hex(operation.value)}n)`;
    case "apicBase":
      return `toggleApicBase(${vcpu}, "${operation.by}")`;
    case "miscEnable":
      return `toggleMwait(${vcpu}, "${operation.by}")`;
    case "xss":
      return `${vcpu}.setMsrs([{ index: 0xda0, data: ${hex(operation.value)}n }])`;
    default:
      return operation satisfies never;
  }
}

/** The functions that the program's statements call, by name; a program contains only the functions that it needs. */
const FUNCTIONS: Readonly<Record<string, string>> = {
  changed: `const changed = (changes: Record<number, object>) =>
  supported.map((entry, i) => ({ ...entry, ...changes[i] }));`,
  setXcr0: `function setXcr0(vcpu: Vcpu, value: bigint) {
  const xcrs = vcpu.getXcrs();
  vcpu.setXcrs({ ...xcrs, nrXcrs: 1, xcrs: xcrs.xcrs.with(0, { xcr: 0, reserved: 0, value }) });
}`,
  toggleCr4: `function toggleCr4(vcpu: Vcpu, by: string, bit: bigint) {
  const sregs = vcpu.getSregs();
  const cr4 = sregs.cr4 ^ bit;
  if (by === "guest") return run(vcpu, "movCr4", cr4);
  if (by === "syncRegs") return syncRegs(vcpu, { ...sregs, cr4 });
  if (by === "sregs2") return vcpu.setSregs2({ ...vcpu.getSregs2(), cr4 });
  return vcpu.setSregs({ ...sregs, cr4 });
}`,
  toggleApicBase: `function toggleApicBase(vcpu: Vcpu, by: string) {
  const sregs = vcpu.getSregs();
  const apicBase = sregs.apicBase ^ 0x800n;
  if (by === "guest") return run(vcpu, "wrmsr", apicBase & 0xffff_ffffn, 0x1bn, apicBase >> 32n);
  if (by === "msrs") return vcpu.setMsrs([{ index: 0x1b, data: apicBase }]);
  if (by === "syncRegs") return syncRegs(vcpu, { ...sregs, apicBase });
  if (by === "sregs2") return vcpu.setSregs2({ ...vcpu.getSregs2(), apicBase });
  return vcpu.setSregs({ ...sregs, apicBase });
}`,
  toggleMwait: `function toggleMwait(vcpu: Vcpu, by: string) {
  const [{ data }] = vcpu.getMsrs([0x1a0]);
  const misc = data ^ (1n << 18n);
  if (by === "guest") return run(vcpu, "wrmsr", misc & 0xffff_ffffn, 0x1a0n, misc >> 32n);
  return vcpu.setMsrs([{ index: 0x1a0, data: misc }]);
}`,
  syncRegs: `function syncRegs(vcpu: Vcpu, sregs: ReturnType<Vcpu["getSregs"]>) {
  const page = vcpu.lowLevel();
  page.setSyncRegs({ sregs });
  page.kvmDirtyRegs = 2;
  vcpu.immediateExit = true;
  const result = page.enter();
  vcpu.immediateExit = false;
  page.kvmDirtyRegs = 0;
  return result;
}`,
  immediateExit: `function immediateExit(vcpu: Vcpu) {
  vcpu.immediateExit = true;
  const exit = vcpu.runSync({ throughSignals: true });
  vcpu.immediateExit = false;
  return exit.kind;
}`,
  tripleFault: `function tripleFault(vcpu: Vcpu) {
  vcpu.setVcpuEvents({ ...vcpu.getVcpuEvents(), flags: 32, tripleFault: { pending: 1 } });
  return vcpu.runSync({ throughSignals: true }).kind;
}`,
  cpuid: `function cpuid(vcpu: Vcpu, leaf: number, index: number) {
  run(vcpu, "cpuid", BigInt(leaf), BigInt(index));
  const { rax, rbx, rcx, rdx } = vcpu.getRegs();
  return [rax, rbx, rcx, rdx];
}`,
  run: `const code = GuestMemory.allocate(0x1000); // real mode; each snippet ends with OUT
code.write(0xf00, Uint8Array.of(0x0f, 0xa2, 0xe6, 0x80)); // CPUID
code.write(0xf10, Uint8Array.of(0x90, 0xe6, 0x80)); // NOP
code.write(0xf20, Uint8Array.of(0x0f, 0x22, 0xe0, 0xe6, 0x80)); // MOV CR4, EAX
code.write(0xf30, Uint8Array.of(0x0f, 0x30, 0xe6, 0x80)); // WRMSR
vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0xffff_f000n, memory: code });
const SNIPPETS = { cpuid: 0xff00n, io: 0xff10n, movCr4: 0xff20n, wrmsr: 0xff30n, nothing: 0n };
function run(vcpu: Vcpu, name: keyof typeof SNIPPETS, rax = 0n, rcx = 0n, rdx = 0n) {
  vcpu.setRegs({ ...vcpu.getRegs(), rip: SNIPPETS[name], rax, rcx, rdx });
  return vcpu.runSync({ throughSignals: true }).kind;
}`,
};
/** The functions that call `run()`. */
const RUNNING = ["toggleCr4", "toggleApicBase", "toggleMwait", "cpuid"];

/** Returns the program's functions in the order of their use. */
function functionsFor(body: string): readonly string[] {
  const isUsed = (name: string): boolean => body.includes(`${name}(`);
  const needsRun = isUsed("run") || RUNNING.some(isUsed);
  const needsSync = ["toggleCr4", "toggleApicBase"].some(isUsed);
  const needed: Readonly<Record<string, boolean>> = { run: needsRun, syncRegs: needsSync };
  return Object.entries(FUNCTIONS)
    .filter(([name]) => needed[name] ?? isUsed(name))
    .map(([, text]) => text)
    .toReversed();
}

/** The answers that the last operation has. */
export interface LastAnswers {
  readonly predicted: string;
  readonly observed: string;
}

/** Prints a sequence; the comment of each statement has the answer that the model predicts. */
export function toTypeScript(
  { vm: options, operations }: Sequence,
  model: LifecycleModel,
  supported: readonly CpuidEntry2[],
  last: LastAnswers,
): string {
  let vm = freshVm(options, VCPUS);
  const used = new Set<number>([0]);
  const lines = operations.map((planned, i) => {
    const operation = concrete(planned, vm, supported);
    const step = model.step(vm, operation);
    vm = step.vm;
    if ("vcpu" in operation) used.add(operation.vcpu);
    const isLast = i === operations.length - 1;
    const comment = isLast
      ? `// the model predicts ${last.predicted}; KVM answered ${last.observed}`
      : `// ${formatAnswer(step.answer)}`;
    return `${comment}\nattempt(${i + 1}, () => ${statement(operation, supported)});`;
  });
  const body = lines.join("\n");
  const functions = functionsFor(body);
  const needsMemory = functions.some((text) => text.includes("GuestMemory"));
  const imports = [
    ...(needsMemory ? ["GuestMemory"] : []),
    "Kvm",
    "KvmError",
    ...(functions.some((t) => t.includes("Vcpu")) ? ["type Vcpu"] : []),
  ];
  return `${[
    `import { ${imports.join(", ")} } from "node-kvm";`,
    "",
    "const kvm = Kvm.open();",
    "kvm.explain = false; // to find a reason, the table would be read, which applies a deferred update",
    "const supported = kvm.getSupportedCpuid();",
    "const vm = kvm.createVm();",
    ...(options.irqchip ? ["vm.createIrqchip();"] : []),
    ...(options.mwaitQuirkOff
      ? ['vm.enableCap({ cap: "KVM_CAP_DISABLE_QUIRKS2", args: [16n] });']
      : []),
    ...(options.hltExitsOff
      ? ['vm.enableCap({ cap: "KVM_CAP_X86_DISABLE_EXITS", args: [2n] });']
      : []),
    ...(body.includes("tripleFault(")
      ? ['vm.enableCap({ cap: "KVM_CAP_X86_TRIPLE_FAULT_EVENT", args: [1n] });']
      : []),
    ...Array.from(used, (number) => `const vcpu${number} = vm.createVcpu(${number});`),
    ...(options.irqchip && used.has(1) ? ["vcpu1.setMpState(0);"] : []),
    "",
    ...functions,
    "function attempt(step: number, call: () => unknown) {",
    "  try {",
    '    console.log(step, call() ?? "ok");',
    "  } catch (error) {",
    "    if (!(error instanceof KvmError)) throw error;",
    "    console.log(step, error.code);",
    "  }",
    "}",
    "",
    body,
  ].join("\n")}\n`;
}
