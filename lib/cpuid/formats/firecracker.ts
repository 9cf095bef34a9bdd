/**
 * Reads and writes Firecracker's JSON: custom CPU templates, which are masks, and fingerprints, which contain the whole
 * table of a guest. The rules come from Firecracker 1.16 (src/vmm/src/cpu_config: templates.rs,
 * x86_64/custom_cpu_template.rs).
 */
import { quoted } from "../../options.ts";
import {
  CPUID_REGISTERS,
  type CpuidRegister,
  formatLeaf,
  isIndexed,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
} from "../entry.ts";
import { TableCollector } from "./collect.ts";
import type {
  CpuidDump,
  CpuidFileCapability,
  CpuidFileMsr,
  CpuidFileTable,
  CpuidFormat,
  CpuidMask,
  CpuidMaskEntry,
} from "./dump.ts";
import { CollectorSink, JsonFields, type JsonMembers, type ProblemSink } from "./json-fields.ts";
import type { JsonValue } from "./json-text.ts";
import { decodeText, headText } from "./lines.ts";
import { ProblemList } from "./problems.ts";

const TEMPLATE = "firecracker-template";
const FINGERPRINT = "firecracker-fingerprint";

/** The members of a template; Firecracker rejects an unknown member (deny_unknown_fields). */
const TEMPLATE_MEMBERS: readonly string[] = [
  ...["kvm_capabilities", "cpuid_modifiers", "msr_modifiers"],
];
/** The members of a template for ARM. */
const ARM_MEMBERS: readonly string[] = ["reg_modifiers", "vcpu_features"];
/** The members of a fingerprint, except for its template. */
const FACTS: readonly string[] = [
  ...["firecracker_version", "kernel_version", "microcode_version"],
  ...["bios_version", "bios_revision"],
];

/** The bits that a bitmap clears or sets. */
interface Bitmap {
  readonly mask: bigint;
  readonly value: bigint;
}

/**
 * Reads a bitmap as Firecracker does: the most significant bit comes first, missing upper bits stay unchanged, and `_`
 * is skipped, except before the last bit that fits.
 *
 * @returns the fault as text.
 */
function parseBitmap(text: string, width: number): Bitmap | string {
  const digits = text.startsWith("0b") ? text.slice(2) : text;
  let [mask, value, bit] = [0n, 0n, 0];
  for (let i = digits.length - 1; i >= 0; i -= 1) {
    const digit = digits.charAt(i);
    if (bit === width) return `it is longer than ${width} bits`;
    if (digit === "_") continue;
    if (digit !== "0" && digit !== "1" && digit !== "x") {
      return `${quoted(digit)} is not one of 0, 1, x and _`;
    }
    if (digit !== "x") mask |= 1n << BigInt(bit);
    if (digit === "1") value |= 1n << BigInt(bit);
    bit += 1;
  }
  return { mask, value };
}

/** Writes a bitmap of all bits. */
function formatBitmap({ mask, value }: Bitmap, width: number): string {
  const digits = Array.from({ length: width }, (_, i) => {
    const bit = 1n << BigInt(width - 1 - i);
    return (mask & bit) === 0n ? "x" : (value & bit) === 0n ? "0" : "1";
  });
  return `0b${digits.join("")}`;
}

/** One item of cpuid_modifiers without faults. */
interface LeafModifier {
  readonly function: number;
  readonly index: number;
  readonly flags: number;
  readonly line: number;
  readonly offset: number;
  readonly registers: readonly RegisterModifier[];
}

interface RegisterModifier extends Bitmap {
  readonly register: CpuidRegister;
  readonly line: number;
}

/** The changes of a template: CPUID bits, MSR bits and capabilities. */
interface Template {
  readonly leaves: readonly LeafModifier[];
  readonly msrs: readonly CpuidFileMsr[];
  readonly capabilities: readonly CpuidFileCapability[];
}

/** Reads the changes of a template, and adds faults to the file's list. */
class TemplateReader {
  readonly #fields: JsonFields;
  readonly #problems: ProblemSink;

  constructor(fields: JsonFields, problems: ProblemSink) {
    this.#fields = fields;
    this.#problems = problems;
  }

  template(value: JsonValue, path: string): Template {
    const fields = this.#fields;
    const members = fields.object(value, path, [], [...TEMPLATE_MEMBERS, ...ARM_MEMBERS]);
    const prefix = path === "" ? "" : `${path}.`;
    for (const name of ARM_MEMBERS) {
      const found = members?.get(name);
      if (found) fields.problem(found.offset, `${prefix}${name}: the template is for ARM`);
    }
    const list = (name: string): readonly (readonly [JsonValue, string])[] =>
      fields.items(members?.get(name), `${prefix}${name}`);
    return {
      leaves: list("cpuid_modifiers").flatMap(([item, at]) => this.#leaf(item, at) ?? []),
      msrs: list("msr_modifiers").flatMap(([item, at]) => this.#msr(item, at) ?? []),
      capabilities: list("kvm_capabilities").flatMap(([item, at]) => this.#capability(item, at)),
    };
  }

  #capability(item: JsonValue, path: string): readonly CpuidFileCapability[] {
    const text = this.#fields.text(item, path);
    if (text === undefined) return [];
    const digits = /^!?(\d{1,10})$/.exec(text)?.[1];
    if (digits === undefined || Number(digits) > 0xffffffff) {
      const message = `${path}: expected the number of a KVM capability, or "!" and one`;
      this.#fields.problem(item.offset, message);
      return [];
    }
    return [{ number: Number(digits), isRequired: !text.startsWith("!") }];
  }

  #msr(item: JsonValue, path: string): CpuidFileMsr | undefined {
    const members = this.#fields.object(item, path, ["addr", "bitmap"]);
    const index = this.#fields.prefixed(members?.get("addr"), `${path}.addr`);
    const bitmap = this.#bitmap(members, path, 64);
    return index === undefined || bitmap === undefined ? undefined : { index, ...bitmap };
  }

  /** Reads an item of cpuid_modifiers; an item with a fault adds nothing. */
  #leaf(item: JsonValue, path: string): LeafModifier | undefined {
    const before = this.#problems.length;
    const fields = this.#fields;
    const members = fields.object(item, path, ["leaf", "subleaf", "flags", "modifiers"]);
    const fn = fields.prefixed(members?.get("leaf"), `${path}.leaf`);
    const index = fields.prefixed(members?.get("subleaf"), `${path}.subleaf`);
    const flags = fields.u32(members?.get("flags"), `${path}.flags`);
    const registers = fields
      .items(members?.get("modifiers"), `${path}.modifiers`)
      .flatMap(([modifier, at]) => this.#register(modifier, at) ?? []);
    if (fn === undefined || index === undefined || flags === undefined) return undefined;
    if (this.#problems.length > before) return undefined;
    const line = fields.line(item);
    return { function: fn, index, flags, line, offset: item.offset, registers };
  }

  #register(item: JsonValue, path: string): RegisterModifier | undefined {
    const members = this.#fields.object(item, path, ["register", "bitmap"]);
    const name = members?.get("register");
    const text = this.#fields.text(name, `${path}.register`);
    const register = CPUID_REGISTERS.find((known) => known === text);
    if (name && text !== undefined && register === undefined) {
      const message = `${path}.register: expected eax, ebx, ecx or edx`;
      this.#fields.problem(name.offset, message);
    }
    const bitmap = this.#bitmap(members, path, 32);
    if (register === undefined || bitmap === undefined) return undefined;
    return { register, line: this.#fields.line(item), ...bitmap };
  }

  #bitmap(members: JsonMembers | undefined, path: string, width: number): Bitmap | undefined {
    const value = members?.get("bitmap");
    const text = this.#fields.text(value, `${path}.bitmap`);
    if (text === undefined || value === undefined) return undefined;
    const bitmap = parseBitmap(text, width);
    if (typeof bitmap !== "string") return bitmap;
    return this.#fields.problem(value.offset, `${path}.bitmap: ${bitmap}`);
  }
}

/** Returns the changes of a leaf. A leaf without registers changes only the flags. */
function maskOf(leaf: LeafModifier): readonly CpuidMaskEntry[] {
  const { function: fn, index, flags } = leaf;
  const registers: readonly RegisterModifier[] =
    leaf.registers.length > 0
      ? leaf.registers
      : [{ register: "eax", mask: 0n, value: 0n, line: leaf.line }];
  return registers.map(({ register, mask, value, line }) => ({
    function: fn,
    indexes: { first: index, last: index },
    register,
    mask: Number(mask),
    value: Number(value),
    flags,
    line,
  }));
}

function parseTemplate(bytes: Uint8Array): CpuidDump {
  const problems = new ProblemList();
  const fields = new JsonFields(decodeText(bytes), problems);
  const value = fields.document();
  const read = value && new TemplateReader(fields, problems).template(value, "");
  return {
    kind: "mask",
    format: TEMPLATE,
    mask: read?.leaves.flatMap(maskOf) ?? [],
    unlisted: "keep",
    capabilities: read?.capabilities ?? [],
    msrs: read?.msrs ?? [],
    problems: problems.toArray(),
    notes: [],
  };
}

const ALL_BITS = 0xffff_ffffn;

function parseFingerprint(bytes: Uint8Array): CpuidDump {
  const into = new TableCollector(FINGERPRINT, { contents: "exact", canBeComplete: true });
  const problems = new CollectorSink(into);
  const fields = new JsonFields(decodeText(bytes), problems);
  const value = fields.document();
  const members = value && fields.object(value, "", ["guest_cpu_config"], FACTS);
  const config = members?.get("guest_cpu_config");
  const template =
    config && new TemplateReader(fields, problems).template(config, "guest_cpu_config");
  // A fingerprint of an ARM host has no leaves, so it has no table.
  if (template && template.leaves.length > 0) into.startCpu(undefined, 1, true);
  for (const leaf of template?.leaves ?? []) {
    const registers = new Map(leaf.registers.map((r) => [r.register, r]));
    const isFull = leaf.registers.length === 4 && registers.size === 4;
    if (!isFull || leaf.registers.some(({ mask }) => mask !== ALL_BITS)) {
      const place = formatLeaf(leaf.function, leaf.index);
      fields.problem(leaf.offset, `${place}: a fingerprint has all bits of the four registers`);
      continue;
    }
    const values = leaf.registers.map(({ register, value: bits }) => [register, Number(bits)]);
    const { function: fn, index, flags } = leaf;
    into.add({ function: fn, index, flags, ...Object.fromEntries(values) }, leaf.line);
  }
  for (const name of FACTS) {
    const text = fields.text(members?.get(name), name);
    if (text !== undefined) into.note(`${name}: ${quoted(text, 200)}`);
  }
  return { ...into.finish(), msrs: template?.msrs ?? [] };
}

/** The leaf and sub-leaf of a change, as a template names them. */
function placeOf(change: CpuidMaskEntry): { readonly function: number; readonly index: number } {
  const { function: fn, indexes, host = 0 } = change;
  const where = `a Firecracker template, leaf 0x${fn.toString(16)}`;
  if (host !== 0) throw new RangeError(`${where}: it has no bits that are copied from the host`);
  if (indexes === undefined && !isIndexed(fn)) return { function: fn, index: 0 };
  if (indexes !== undefined && indexes.first === indexes.last) {
    return { function: fn, index: indexes.first };
  }
  throw new RangeError(`${where}: it names one sub-leaf, not a range`);
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Writes a template with the members of Firecracker's own output, in the same order. */
function formatMask(contents: CpuidMask, msrs: readonly CpuidFileMsr[] = []): Uint8Array {
  if (contents.unlisted !== "keep") {
    throw new RangeError("a Firecracker template keeps the registers that it does not name");
  }
  const leaves: {
    key: string;
    leaf: string;
    subleaf: string;
    flags: number;
    modifiers: object[];
  }[] = [];
  for (const change of contents.mask) {
    const { function: fn, index } = placeOf(change);
    const flags = change.flags ?? (isIndexed(fn) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0);
    const key = `${fn}.${index}.${flags}`;
    const bits = { mask: BigInt(change.mask), value: BigInt(change.value) };
    const modifier = { register: change.register, bitmap: formatBitmap(bits, 32) };
    const last = leaves.at(-1);
    if (last?.key === key) last.modifiers.push(modifier);
    else leaves.push({ key, leaf: hex(fn), subleaf: hex(index), flags, modifiers: [modifier] });
  }
  const template = {
    kvm_capabilities: contents.capabilities.map((c) => `${c.isRequired ? "" : "!"}${c.number}`),
    cpuid_modifiers: leaves.map(({ key: _, ...leaf }) => leaf),
    msr_modifiers: msrs.map((msr) => ({ addr: hex(msr.index), bitmap: formatBitmap(msr, 64) })),
  };
  return new TextEncoder().encode(`${JSON.stringify(template, null, 2)}\n`);
}

/** Writes one table as `cpu-template-helper template dump` does: a template that sets every bit. */
function formatTables(tables: readonly CpuidFileTable[]): Uint8Array {
  const [only] = tables;
  if (only === undefined || tables.length !== 1) {
    throw new RangeError(`a Firecracker template is of one table, not of ${tables.length}`);
  }
  const mask = [...only.table].flatMap((e) =>
    CPUID_REGISTERS.map((register) => ({
      function: e.function,
      indexes: { first: e.index, last: e.index },
      register,
      mask: 0xffffffff,
      value: e[register],
      flags: e.flags,
      line: 0,
    })),
  );
  return formatMask({ mask, unlisted: "keep", capabilities: [] });
}

/** Whether the beginning of a file is a JSON object with one of the members. */
function beginsWith(head: Uint8Array, members: RegExp): boolean {
  const text = headText(head);
  return /^\s*\{/.test(text) && members.test(text);
}

const OF_FINGERPRINT = /"guest_cpu_config"\s*:/;
const OF_TEMPLATE = /"(?:cpuid_modifiers|msr_modifiers|kvm_capabilities|reg_modifiers)"\s*:/;

/** The format of Firecracker's custom CPU templates. */
export const firecrackerTemplate: CpuidFormat = {
  name: TEMPLATE,
  title: "Firecracker's custom CPU template (JSON)",
  kind: "mask",
  isLossless: true,
  likelihood: (head) =>
    beginsWith(head, OF_TEMPLATE) && !beginsWith(head, OF_FINGERPRINT) ? 0.95 : 0,
  parse: parseTemplate,
  format: formatTables,
  formatMask,
};

/** A fingerprint of `cpu-template-helper fingerprint dump`. */
export const firecrackerFingerprint: CpuidFormat = {
  name: FINGERPRINT,
  title: "Firecracker's fingerprint of a guest's CPU (JSON)",
  kind: "tables",
  isLossless: false,
  likelihood: (head) => (beginsWith(head, OF_FINGERPRINT) ? 0.95 : 0),
  parse: parseFingerprint,
  format: undefined,
};
