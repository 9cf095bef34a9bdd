/**
 * Generates lib/abi/generated/structs.ts from layouts: an interface and a runtime layout for each struct.
 * lib/abi/struct.ts reads and writes bytes by these layouts.
 */

/**
 * @typedef {import("./layouts.js").Layout} Layout
 * @typedef {import("./layouts.js").Field} Field
 */

const bigints = new Set(["u64", "s64"]);

/**
 * Returns the TypeScript type of an array with elements of this type and `depth` dimensions.
 * @param {string} element @param {boolean} isLayout @param {number} depth
 */
function typeOf(element, isLayout, depth) {
  const scalar = bigints.has(element) ? "bigint" : "number";
  const isBytes = element === "u8" && depth > 0;
  let type = isLayout ? element : scalar;
  if (isBytes) type = "Uint8Array";
  const rest = isBytes ? depth - 1 : depth;
  return `${"readonly ".repeat(rest > 0 ? 1 : 0)}${type}${"[]".repeat(rest)}`;
}

/** Writes a field's type in the notation of the runtime layout. @param {Field} field */
function layoutType(field) {
  const one = field.isLayout ? field.element : `"${field.element}"`;
  return field.dims.reduceRight((of, count) => `{ of: ${of}, count: ${count} }`, one);
}

/** @param {Field} field */
function describe(field) {
  const dims = field.dims.map((count) => `[${count}]`).join("");
  const bits = field.bits ? `:${field.bits[1]}, bit ${field.bits[0]} of the byte` : "";
  return `${field.c}${dims}${bits} at ${field.offset}`;
}

/** @param {Layout} layout */
function printInterface(layout) {
  const what = layout.kind === "union" ? "union: its members overlap" : "struct";
  const lines = layout.fields.map(
    (field) =>
      `  /** ${describe(field)} */\n` +
      `  readonly ${field.name}: ${typeOf(field.element, field.isLayout, field.dims.length)};\n`,
  );
  if (layout.tail) {
    const { name, element, isLayout, c, offset, count } = layout.tail;
    const counted = count ? `, as many as ${count} says` : ", to the end of the bytes";
    lines.push(
      `  /** ${c}[] at ${offset}${counted} */\n` +
        `  readonly ${name}: ${typeOf(element, isLayout, 1)};\n`,
    );
  }
  return (
    `/** ${layout.cName} (${what}), ${layout.size} bytes. */\n` +
    `export interface ${layout.name} {\n${lines.join("")}}\n`
  );
}

/** @param {Layout} layout */
function printLayout(layout) {
  const fields = layout.fields.map((field) => {
    const bits = field.bits ? `, bits: [${field.bits.join(", ")}]` : "";
    return (
      `    { name: "${field.name}", offset: ${field.offset}, ` +
      `type: ${layoutType(field)}${bits} },\n`
    );
  });
  const { tail } = layout;
  const count = tail?.count ? `"${tail.count}"` : "undefined";
  const element = tail?.isLayout ? tail.element : `"${tail?.element}"`;
  const end = tail
    ? `  tail: { name: "${tail.name}", offset: ${tail.offset}, element: ${element}, count: ${count} },\n`
    : "";
  return (
    `/** The layout of ${layout.cName}. */\n` +
    `export const ${layout.name}: Layout<${layout.name}> = {\n` +
    `  name: "${layout.cName}",\n  size: ${layout.size},\n  fields: [\n${fields.join("")}  ],\n${end}};\n`
  );
}

/**
 * Returns the text of structs.ts, without its stamp.
 * @param {Map<string, Layout>} layouts
 * @returns {string}
 */
export function printStructs(layouts) {
  const printed = [...layouts.values()].map(
    (layout) => printInterface(layout) + printLayout(layout),
  );
  return `import type { Layout } from "../layout.ts";\n\n${printed.join("\n")}`;
}
