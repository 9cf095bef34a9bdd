/**
 * Generates lib/abi/generated/ioctls.ts and native/generated/ioctl_shapes.h from shapes, which shapes.js makes.
 */

import { makeCommands } from "./links.js";
import { exceptions } from "./shapes.js";

/**
 * @typedef {import("./extract.js").Facts} Facts
 * @typedef {import("./layouts.js").Layout} Layout
 * @typedef {import("./shapes.js").Shape} Shape
 */

/** @param {number} request */
const hex = (request) => `0x${request.toString(16).padStart(8, "0")}`;

/** @param {string} snake @param {string} [prefix] e.g. `KVM_GET_REGS` into `KvmGetRegs` */
const pascal = (snake, prefix = "") =>
  prefix +
  snake
    .toLowerCase()
    .split("_")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");

/** Describes the argument of an ioctl, with the reason of an exception if there is one. @param {Shape} shape */
function docLines(shape) {
  const what = shape.struct ? `${shape.name}: ${shape.struct.cName}.` : `${shape.name}.`;
  const reason = exceptions.ioctls[shape.name]?.reason;
  if (!reason) return [what];
  const sentence = `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`;
  return [what, "", ...wrap(sentence)];
}

/** Breaks a sentence into lines that fit a doc comment. @param {string} sentence */
function wrap(sentence) {
  const [first = "", ...words] = sentence.split(" ");
  const lines = [first];
  for (const word of words) {
    const longer = `${lines.at(-1)} ${word}`;
    if (longer.length > 96) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

/** @param {import("./links.js").Link} link */
function printLink({ field, kind, direction, stated }) {
  const when = stated.length > 0 ? `,\n        when: ${JSON.stringify(stated.join(", "))}` : "";
  const line = `{ field: "${field}", kind: "${kind}", direction: "${direction}"${when} }`;
  return `      ${when ? line.replace("{ ", "{\n        ").replace(/ }$/, ",\n      }") : line},\n`;
}

/** Writes the properties that only a few ioctls have, as members of an object. @param {Shape} shape */
function printRest(shape) {
  const links = shape.links.map(printLink).join("");
  return (
    (links ? `    links: [\n${links}    ],\n` : "") +
    (shape.nullable ? "    nullable: true,\n" : "") +
    (shape.fdOffset === undefined ? "" : `    fdOffset: ${shape.fdOffset},\n`)
  );
}

/** @param {Shape} shape */
function printIoctl(shape) {
  const { name, request, kind, result, direction, size, section } = shape;
  const struct = shape.struct?.name;
  const rest = printRest(shape);
  const facts = [name, hex(request), kind, result, direction, size, section ?? "-"].join(" ");
  const fds = shape.fds.map((fd) => `${fd} ${shape.capability[fd] ?? "-"} ${shape.since[fd]}`);
  const values = [
    ...[facts, fds.join(", ")].map((text) => JSON.stringify(text)),
    ...(struct || rest ? [struct ?? "undefined"] : []),
    ...(rest ? [`{\n${rest}  }`] : []),
  ];
  return (
    `/**\n${docLines(shape)
      .map((line) => ` * ${line}`.trimEnd().concat("\n"))
      .join("")} */\n` +
    `export const ${name}: Ioctl${struct ? `<${struct}>` : ""} = ioctlOf(\n` +
    `${values.map((value) => `  ${value},\n`).join("")});\n`
  );
}

/**
 * Returns the text of ioctls.ts, without its stamp.
 * @param {Shape[]} shapes
 * @returns {string}
 */
export function printIoctls(shapes) {
  const byName = shapes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const structs = new Set(byName.flatMap(({ struct }) => struct?.name ?? []));
  const names = [...structs].toSorted((a, b) => (a < b ? -1 : 1)).map((name) => `  ${name},\n`);
  return (
    `import { type Ioctl, ioctlOf } from "../ioctl-text.ts";\n` +
    `import {\n${names.join("")}} from "./structs.ts";\n\n` +
    `${byName.map(printIoctl).join("\n")}\n` +
    "/** Every ioctl that x86 dispatches, by request. */\n" +
    `export const IOCTLS: readonly Ioctl[] = [\n${shapes.map(({ name }) => `  ${name},\n`).join("")}];\n`
  );
}

/** Structs that native code fills in or reads itself, with their names in native code. */
const nativeStructs = {
  kvm_enable_cap: "EnableCap",
  kvm_userspace_memory_region: "UserMemoryRegion",
  kvm_userspace_memory_region2: "UserMemoryRegion2",
};

/** The members of kvm_run for the exits that the native exit filter handles. */
const nativeExits = ["io", "mmio", "msr"];

/** Constants that native code needs. */
const nativeConstants = [
  "KVM_EXIT_IO",
  "KVM_EXIT_IO_IN",
  "KVM_EXIT_MMIO",
  "KVM_EXIT_X86_RDMSR",
  "KVM_EXIT_X86_WRMSR",
  "KVM_CAP_DIRTY_LOG_RING",
  "KVM_CAP_DIRTY_LOG_RING_ACQ_REL",
  "KVM_DIRTY_LOG_PAGE_OFFSET",
  "KVM_MEM_GUEST_MEMFD",
];

/** @param {Layout | undefined} layout @param {string} name */
function printOffsets(layout, name) {
  if (!layout) throw new Error(`native: no struct for ${name}`);
  const offsets = layout.fields.map(
    ({ cName, offset }) => `inline constexpr size_t k${name}${pascal(cName)}Offset = ${offset};\n`,
  );
  return `inline constexpr size_t k${name}Size = ${layout.size};\n${offsets.join("")}`;
}

/** The links of all ioctls and commands in one array; each ioctl or command has a range of this array. */
class LinkTable {
  /** @type {string[]} */
  rows = [];

  /** Adds links to the array; returns their range. @param {import("./links.js").Link[]} links */
  add(links) {
    const first = links.length === 0 ? 0 : this.rows.length;
    this.rows.push(...links.map((link) => this.#row(link)));
    return [first, links.length];
  }

  /** @param {import("./links.js").Link} link */
  #row({ kind, direction, offset, when }) {
    const copiesBack = direction === "out" || direction === "inout";
    const conditions = when.map(({ offset: at, width, value }) => `{${at}, ${width}, ${value}}`);
    return `    {LinkKind::k${pascal(kind)}, ${copiesBack}, ${offset}, {${conditions.join(", ")}}},\n`;
  }
}

/** @param {Shape} shape @param {LinkTable} table */
function printShape(shape, table) {
  const result = shape.fdOffset === undefined ? pascal(shape.result) : "FdInStruct";
  const values = [
    hex(shape.request),
    `Kind::k${pascal(shape.kind)}`,
    `Result::k${result}`,
    shape.size,
    shape.countOffset,
    shape.countWidth,
    shape.entrySize,
    shape.fdOffset ?? 0,
    ...table.add(shape.links),
    shape.nullable,
  ];
  return `    {${values.join(", ")},\n     "${shape.name}"},\n`;
}

/** @param {Facts} facts @param {LinkTable} table @param {"vm" | "vcpu"} fd */
function printCommands(facts, table, fd) {
  return makeCommands(facts, exceptions.commands[fd])
    .map(
      ({ id, size, links }) =>
        `    {${[id, fd === "vcpu", size, ...table.add(links)].join(", ")}},\n`,
    )
    .join("");
}

/**
 * Returns the text of ioctl_shapes.h, without its stamp.
 * @param {Facts} facts @param {Shape[]} shapes @param {Map<string, Layout>} layouts
 * @returns {string}
 */
export function printShapes(facts, shapes, layouts) {
  const byCName = new Map([...layouts.values()].map((layout) => [layout.cName, layout]));
  const requests = shapes
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, request }) => `inline constexpr uint32_t k${pascal(name)} = ${hex(request)};\n`);
  const offsets = Object.entries(nativeStructs).map(([cName, name]) =>
    printOffsets(byCName.get(cName), name),
  );
  const run = byCName.get("kvm_run")?.fields ?? [];
  const runOffsets = ["immediate_exit", "exit_reason"].map((wanted) => {
    const offset = run.find(({ cName }) => cName === wanted)?.offset;
    return `inline constexpr size_t kRun${pascal(wanted)}Offset = ${offset};\n`;
  });
  const exitOffsets = (facts.structs["kvm_run"]?.fields ?? [])
    .filter(({ name }) => nativeExits.includes(name))
    .flatMap(({ name, offset, fields = [] }) =>
      fields.map(
        (field) =>
          `inline constexpr size_t kRun${pascal(`${name}_${field.name}`)}Offset = ${offset + field.offset};\n`,
      ),
    );
  const constants = nativeConstants.map(
    (name) => `inline constexpr uint32_t k${pascal(name)} = ${facts.constants[name]};\n`,
  );
  const table = new LinkTable();
  const rows = shapes.map((shape) => printShape(shape, table)).join("");
  const commands = printCommands(facts, table, "vm") + printCommands(facts, table, "vcpu");
  const { known, values } = exceptions.commands;
  const first = facts.constants[values.vcpu[0] ?? ""];
  return `#pragma once

#include <cstddef>
#include <cstdint>

namespace node_kvm {

// none: no argument. value: an integer, never an address. plain: \`size\` bytes. tailed: a header of
// \`size\` bytes, then count x \`entry_size\`. sized: at least \`size\` bytes; their number is in the
// field at count_offset (header included) or, if count_width is 0, the result of
// KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2). pointing: \`size\` bytes that contain an address.
enum class Kind : uint8_t { kNone, kValue, kPlain, kTailed, kSized, kPointing };

// The meaning of a result of 0 or more; with kFdInStruct the fd is the s32 at fd_offset.
enum class Result : uint8_t { kInt, kFd, kFdInStruct };

// The contents of a field that JavaScript may not write. bytes: the address of bytes (or of guest
// memory). memory: the address of guest memory that must stay mapped. fd: a descriptor. command:
// the address of a struct that kCommands describes.
enum class LinkKind : uint8_t { kBytes, kMemory, kFd, kCommand };

// A field is compared with a value; width 0: no condition.
struct Condition {
  uint16_t offset;
  uint8_t width;
  uint32_t value;
};

struct Link {
  LinkKind kind;
  bool copies_back;
  uint16_t offset;
  Condition when[2];
};

struct IoctlShape {
  uint32_t request;
  Kind kind;
  Result result;
  uint32_t size;
  uint16_t count_offset;
  uint8_t count_width;
  uint16_t entry_size;
  uint16_t fd_offset;
  uint16_t first_link;
  uint16_t links;
  bool nullable;
  const char* name;
};

// Sorted by request; each request occurs once.
inline constexpr IoctlShape kIoctlShapes[] = {
${rows}};
static_assert(sizeof(kIoctlShapes) / sizeof(kIoctlShapes[0]) == ${shapes.length});

// A command of KVM_MEMORY_ENCRYPT_OP whose struct contains addresses.
struct Command {
  uint32_t id;
  bool of_vcpu;
  uint32_t size;
  uint16_t first_link;
  uint16_t links;
};

inline constexpr Command kCommands[] = {
${commands}};

inline constexpr Link kLinks[] = {
${table.rows.join("")}};

// Commands from this number on are unknown: their structs may contain addresses anywhere.
inline constexpr uint32_t kVmCommands = ${facts.constants[known.vm]};
inline constexpr uint32_t kVcpuCommands = ${facts.constants[known.vcpu]};
// The only command whose data is a value and not an address.
inline constexpr uint32_t kVcpuValueCommand = ${first};

${requests.join("")}
${offsets.join("\n")}
${runOffsets.join("")}${exitOffsets.join("")}
${constants.join("")}
}  // namespace node_kvm
`;
}
