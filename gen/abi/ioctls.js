/**
 * Shapes in, lib/abi/generated/ioctls.ts and native/generated/ioctl_shapes.h out.
 * What a shape is made of is shapes.js.
 */

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

/** Writes a record of strings, on one line if it fits. @param {Record<string, string | null>} record */
function inline(record) {
  const items = Object.entries(record).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  const line = `{ ${items.join(", ")} }`;
  return line.length < 80 ? line : `{\n    ${items.join(",\n    ")},\n  }`;
}

/** Says what an ioctl takes and, where that is not plain from its struct, why. @param {Shape} shape */
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

/** @param {Shape} shape */
function printIoctl(shape) {
  const struct = shape.struct?.name;
  const pointee = shape.pointee ? `  pointee: "${shape.pointee}",\n` : "";
  const fd = shape.fdOffset === undefined ? "" : `  fdOffset: ${shape.fdOffset},\n`;
  return (
    `/**\n${docLines(shape)
      .map((line) => ` * ${line}`.trimEnd().concat("\n"))
      .join("")} */\n` +
    `export const ${shape.name}: Ioctl${struct ? `<${struct}>` : ""} = {\n` +
    `  name: "${shape.name}",\n` +
    `  request: ${hex(shape.request)},\n` +
    `  fds: [${shape.fds.map((kind) => `"${kind}"`).join(", ")}],\n` +
    `  kind: "${shape.kind}",\n` +
    `  result: "${shape.result}",\n` +
    `  direction: "${shape.direction}",\n${pointee}` +
    `  size: ${shape.size},\n${struct ? `  struct: ${struct},\n` : ""}${fd}` +
    `  section: ${JSON.stringify(shape.section)},\n` +
    `  capability: ${inline(shape.capability)},\n` +
    `  since: ${inline(shape.since)},\n};\n`
  );
}

/**
 * Makes ioctls.ts, without its stamp.
 * @param {Shape[]} shapes
 * @returns {string}
 */
export function printIoctls(shapes) {
  const byName = shapes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const structs = new Set(byName.flatMap(({ struct }) => struct?.name ?? []));
  const names = [...structs].toSorted((a, b) => (a < b ? -1 : 1)).map((name) => `  ${name},\n`);
  return (
    `import type { Ioctl } from "../ioctl.ts";\n` +
    `import {\n${names.join("")}} from "./structs.ts";\n\n` +
    `${byName.map(printIoctl).join("\n")}\n` +
    "/** Every ioctl that x86 dispatches, by request. */\n" +
    `export const IOCTLS: readonly Ioctl[] = [\n${shapes.map(({ name }) => `  ${name},\n`).join("")}];\n`
  );
}

/** Structs that the native layer fills in or reads itself, and what it calls them. */
const nativeStructs = {
  kvm_clear_dirty_log: "ClearDirtyLog",
  kvm_create_device: "CreateDevice",
  kvm_device_attr: "DeviceAttr",
  kvm_dirty_log: "DirtyLog",
  kvm_enable_cap: "EnableCap",
  kvm_msr_filter: "MsrFilter",
  kvm_msr_filter_range: "MsrFilterRange",
  kvm_one_reg: "OneReg",
  kvm_userspace_memory_region: "UserMemoryRegion",
  kvm_userspace_memory_region2: "UserMemoryRegion2",
};

/** @param {Layout | undefined} layout @param {string} name */
function printOffsets(layout, name) {
  if (!layout) throw new Error(`native: no struct for ${name}`);
  const offsets = layout.fields.map(
    ({ cName, offset }) => `inline constexpr size_t k${name}${pascal(cName)}Offset = ${offset};\n`,
  );
  return `inline constexpr size_t k${name}Size = ${layout.size};\n${offsets.join("")}`;
}

/** @param {Shape} shape */
function printShape(shape) {
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
  ];
  return `    {${values.join(", ")},\n     "${shape.name}"},\n`;
}

/**
 * Makes ioctl_shapes.h, without its stamp.
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
  const capability = exceptions.ioctls.KVM_ENABLE_CAP?.pointingCapability ?? "";
  return `#pragma once

#include <cstddef>
#include <cstdint>

namespace node_kvm {

// none: no argument. value: an integer, never followed. plain: \`size\` bytes. tailed: a header of
// \`size\` bytes, then count x \`entry_size\`. sized: at least \`size\` bytes, but how many is told by
// the field at count_offset (header included), or, where count_width is 0, by
// KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2). pointing: \`size\` bytes that hold an address to be followed.
enum class Kind : uint8_t { kNone, kValue, kPlain, kTailed, kSized, kPointing };

// What a result of 0 or more is; with kFdInStruct the fd is the s32 at fd_offset.
enum class Result : uint8_t { kInt, kFd, kFdInStruct };

struct IoctlShape {
  uint32_t request;
  Kind kind;
  Result result;
  uint32_t size;
  uint16_t count_offset;
  uint8_t count_width;
  uint16_t entry_size;
  uint16_t fd_offset;
  const char* name;
};

// By request; each request once.
inline constexpr IoctlShape kIoctlShapes[] = {
${shapes.map(printShape).join("")}};
static_assert(sizeof(kIoctlShapes) / sizeof(kIoctlShapes[0]) == ${shapes.length});

${requests.join("")}
${offsets.join("\n")}
${runOffsets.join("")}
// KVM_ENABLE_CAP is pointing for this capability alone: it writes to the address in args[0].
inline constexpr uint32_t kEnableCapPointingCap = ${facts.constants[capability]};

}  // namespace node_kvm
`;
}
