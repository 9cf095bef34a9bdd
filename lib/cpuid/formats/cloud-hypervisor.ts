/**
 * Reads and writes the JSON of Cloud Hypervisor's CPU profiles, which contain adjustments of registers. Every register
 * without an adjustment becomes 0 (arch/src/x86_64/cpu_profile/cpuid_adjustments.rs).
 */
import { CPUID_REGISTERS } from "../entry.ts";
import type { CpuidDump, CpuidFormat, CpuidMask, CpuidMaskEntry } from "./dump.ts";
import { JsonFields } from "./json-fields.ts";
import { MOST_MASK_ENTRIES } from "./limits.ts";
import { decodeText, headText } from "./lines.ts";
import { ProblemList } from "./problems.ts";

const NAME = "cloud-hypervisor";

function parse(bytes: Uint8Array): CpuidDump {
  const problems = new ProblemList();
  const notes: string[] = [];
  const fields = new JsonFields(decodeText(bytes), problems);
  const value = fields.document();
  const members =
    value && value.kind !== "array" ? fields.object(value, "", ["adjustments"]) : undefined;
  const others = [...(members?.keys() ?? [])].filter((name) => name !== "adjustments");
  if (others.length > 0) notes.push(`${others.length} members beside "adjustments" are not read`);
  const list = value?.kind === "array" ? value : members?.get("adjustments");
  const mask: CpuidMaskEntry[] = [];
  for (const [item, path] of fields.items(list, "adjustments")) {
    const parts = fields.items(item, path);
    const [place, change] = parts;
    if (place === undefined || change === undefined || parts.length !== 2) {
      if (item.kind === "array")
        fields.problem(item.offset, `${path}: expected a place and a change`);
      continue;
    }
    if (mask.length >= MOST_MASK_ENTRIES) {
      fields.problem(item.offset, `more than ${MOST_MASK_ENTRIES} adjustments`);
      break;
    }
    const at = fields.object(place[0], place[1], ["leaf", "sub_leaf", "register"]);
    const leaf = fields.prefixed(at?.get("leaf"), `${place[1]}.leaf`);
    const range = at?.get("sub_leaf");
    const ends = range && fields.object(range, `${place[1]}.sub_leaf`, ["start", "end"]);
    const first = fields.prefixed(ends?.get("start"), `${place[1]}.sub_leaf.start`);
    const last = fields.prefixed(ends?.get("end"), `${place[1]}.sub_leaf.end`);
    const named = at?.get("register");
    const text = fields.text(named, `${place[1]}.register`);
    const register = CPUID_REGISTERS.find((name) => name.toUpperCase() === text);
    if (named && text !== undefined && register === undefined) {
      fields.problem(named.offset, `${place[1]}.register: expected EAX, EBX, ECX or EDX`);
    }
    const bits = fields.object(change[0], change[1], ["replacements", "mask"]);
    const value = fields.prefixed(bits?.get("replacements"), `${change[1]}.replacements`);
    const kept = fields.prefixed(bits?.get("mask"), `${change[1]}.mask`);
    if (leaf === undefined || first === undefined || last === undefined) continue;
    if (register === undefined || value === undefined || kept === undefined) continue;
    if (first > last) {
      fields.problem(place[0].offset, `${place[1]}.sub_leaf: it ends before it starts`);
      continue;
    }
    mask.push({
      function: leaf,
      indexes: { first, last },
      register,
      mask: (~kept | value) >>> 0,
      value,
      flags: undefined,
      line: fields.line(item),
    });
  }
  const contents: CpuidMask = { mask, unlisted: "clear", capabilities: [] };
  return { kind: "mask", format: NAME, ...contents, problems: problems.toArray(), notes, msrs: [] };
}

const hex = (value: number): string => `0x${value.toString(16)}`;

function formatMask(contents: CpuidMask): Uint8Array {
  const wrong = (what: string): RangeError => new RangeError(`a Cloud Hypervisor profile ${what}`);
  if (contents.unlisted !== "clear") throw wrong("clears the registers that it does not name");
  if (contents.capabilities.length > 0) throw wrong("has no KVM capabilities");
  const adjustments = contents.mask.map((change) => {
    const { function: fn, indexes, register, mask, value, flags, host = 0 } = change;
    if (flags !== undefined) throw wrong("does not change flags");
    if (host !== 0) throw wrong("has no bits that are copied from the host");
    const { first, last } = indexes ?? { first: 0, last: 0xffffffff };
    return [
      {
        leaf: hex(fn),
        sub_leaf: { start: hex(first), end: hex(last) },
        register: register.toUpperCase(),
      },
      { replacements: hex(value), mask: hex(~mask >>> 0) },
    ];
  });
  return new TextEncoder().encode(`${JSON.stringify({ adjustments }, null, 2)}\n`);
}

/** The format of Cloud Hypervisor's CPU profiles. */
export const cloudHypervisor: CpuidFormat = {
  name: NAME,
  title: "Cloud Hypervisor's CPU profile (JSON)",
  kind: "mask",
  isLossless: true,
  likelihood: (head) => {
    const text = headText(head);
    if (!/^\s*[[{]/.test(text)) return 0;
    return /"replacements"\s*:/.test(text) && /"sub_leaf"\s*:/.test(text) ? 0.95 : 0;
  },
  parse,
  format: undefined,
  formatMask,
};
