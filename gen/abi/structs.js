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

/** Writes a type as `layoutOf` reads it: a scalar, or the place of a layout in the list of layouts. */
class Types {
  /** @type {string[]} */
  layouts = [];

  /** @param {{ element: string, isLayout: boolean }} type */
  name({ element, isLayout }) {
    if (!isLayout) return element;
    if (!this.layouts.includes(element)) this.layouts.push(element);
    return `#${this.layouts.indexOf(element)}`;
  }
}

/** @param {Layout} layout */
function printLayout(layout) {
  const types = new Types();
  const fields = layout.fields.map((field) => {
    const dims = field.dims.map((count) => `[${count}]`).join("");
    const bits = field.bits ? ` ${field.bits.join(" ")}` : "";
    return `${field.name} ${field.offset} ${types.name(field)}${dims}${bits}`;
  });
  const { tail } = layout;
  const count = tail?.count ? `"${tail.count}"` : "undefined";
  const element = tail?.isLayout ? tail.element : `"${tail?.element}"`;
  const end = tail
    ? `{ name: "${tail.name}", offset: ${tail.offset}, element: ${element}, count: ${count} }`
    : undefined;
  const rest = [
    ...(types.layouts.length > 0 || end ? [listOf(types.layouts)] : []),
    ...(end ? [end] : []),
  ];
  return (
    `/** The layout of ${layout.cName}. */\n` +
    `export const ${layout.name}: Layout<${layout.name}> = layoutOf(\n` +
    `  "${layout.cName}",\n  ${layout.size},\n  ${quote(fields)},\n` +
    `${rest.map((one) => `  ${one},\n`).join("")});\n`
  );
}

/** Writes a list of names, on one line if it fits. @param {string[]} names */
function listOf(names) {
  const line = `[${names.join(", ")}]`;
  return line.length < 90 ? line : `[\n${names.map((name) => `    ${name},\n`).join("")}  ]`;
}

/** Writes fields as a text, in lines that fit. @param {string[]} fields */
function quote(fields) {
  /** @type {string[]} */
  const lines = [];
  for (const [i, field] of fields.entries()) {
    const text = i < fields.length - 1 ? `${field}, ` : field;
    const last = lines.at(-1);
    if (last !== undefined && last.length + text.length < 95) lines[lines.length - 1] = last + text;
    else lines.push(text);
  }
  if (lines.length < 2) return `"${lines.join("")}"`;
  return `\`\n${lines.map((line) => `    ${line.trimEnd()}\n`).join("")}  \``;
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
  return `import { type Layout, layoutOf } from "../layout.ts";\n\n${printed.join("\n")}`;
}
