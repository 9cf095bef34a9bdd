/**
 * Generates lib/kvm/generated/*-ioctls.ts from shapes and ioctl-methods.json: for each kind of descriptor, a class with
 * the methods that only make one ioctl. All other methods are written by hand in lib/kvm.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { camelCase } from "./layouts.js";

/**
 * @typedef {import("./shapes.js").Shape} Shape
 * @typedef {{ ioctl: string, fds?: string[], does: string, parameter?: string,
 *   parameterIs?: string, unwrap?: string, key?: string, returns?: string,
 *   whole?: string, patch?: string, needs?: string[], each?: string[], rest?: string,
 *   throws?: Record<string, string> }} Method
 * @typedef {{ parameters: string, result: string, body: string, structs: string[],
 *   types: string[] }} Code
 */

/** @type {Method[]} */
const methods = JSON.parse(
  readFileSync(join(import.meta.dirname, "..", "facts", "ioctl-methods.json"), "utf8"),
).methods;

const classes = { sys: "KvmIoctls", vm: "VmIoctls", vcpu: "VcpuIoctls" };
const owners = { sys: "/dev/kvm", vm: "a VM", vcpu: "a vCPU" };
const objects = { sys: "/dev/kvm", vm: "vm", vcpu: "vcpu" };

/** Names a method: `KVM_GET_SREGS2` is `getSregs2`. @param {string} ioctl */
export const methodName = (ioctl) => camelCase(ioctl.replace(/^KVM_/, "").toLowerCase());

/** Breaks text into lines of a doc comment. @param {string} text @param {string} [indent] */
function lines(text, indent = "") {
  const words = text.split(" ");
  const all = [words.shift() ?? ""];
  for (const word of words) {
    const longer = `${all.at(-1)} ${word}`;
    if (longer.length > 92) all.push(indent + word);
    else all[all.length - 1] = longer;
  }
  return all;
}

/** A sentence for the comments of methods that replace a state. */
const WHOLE = "Every field is required, except padding: a field that is missing is a TypeError.";

/** @param {Method} method @param {Shape} shape @param {keyof typeof classes} fd */
function card(method, shape, fd) {
  const section = shape.section === null ? [] : [`api.rst ${shape.section}`];
  const capability = shape.capability[fd];
  const since = shape.since[fd] === "6.1" ? [] : [`Linux ${shape.since[fd]}`];
  const where = [...section, objects[fd], ...(capability ? [capability] : []), ...since];
  const reasons = Object.entries(method.throws ?? {}).map(
    ([errno, when]) => `\`${errno}\`: ${when}`,
  );
  const parameter = method.parameterIs
    ? [`@param ${method.parameter} - ${method.parameterIs}.`]
    : [];
  return [
    ...lines(method.does),
    ...(method.whole && method.does !== "" && !method.does.includes("`patch`") ? lines(WHOLE) : []),
    "",
    ...parameter,
    ...(method.returns ? lines(`@returns ${method.returns}.`, "  ") : []),
    `@ioctl ${method.ioctl} (${where.join("; ")})`,
    ...(reasons.length > 0 ? lines(`@throws {@link KvmError} ${reasons.join("; ")}.`, "  ") : []),
  ];
}

/** Makes a method whose argument is an integer, or nothing. @param {Method} method @returns {Code} */
function integerCode({ ioctl, parameter, returns }) {
  const call = parameter ? `setInteger(${ioctl}, ${parameter}, "${parameter}")` : `ioctl(${ioctl})`;
  const type = parameter === "address" ? "bigint | number" : "number";
  return {
    parameters: parameter ? `${parameter}: ${type}` : "",
    result: returns ? "number" : "void",
    body: `${returns ? "return " : ""}this.${call};`,
    structs: [],
    types: [],
  };
}

/** Makes a method whose argument is eight bytes. @param {Method} method @param {Shape} shape @returns {Code} */
function wordCode({ ioctl, parameter }, shape) {
  if (shape.size !== 8) throw new Error(`${ioctl}: no struct for ${shape.size} bytes`);
  const isGet = shape.direction === "out";
  return {
    parameters: isGet ? "" : `${parameter}: bigint | number`,
    result: isGet ? "bigint" : "void",
    body: isGet
      ? `return this.getU64(${ioctl});`
      : `this.setU64(${ioctl}, ${parameter}, "${parameter}");`,
    structs: [],
    types: [],
  };
}

/** Returns the TypeScript type of a struct's only field. @param {Shape} shape @param {string} name */
function fieldType(shape, name) {
  const { struct } = shape;
  const field = struct?.fields.find((candidate) => candidate.name === name);
  if (!struct || !(field || struct.tail?.name === name)) {
    throw new Error(`${shape.name}: no field ${name}`);
  }
  return `${struct.name}["${name}"]`;
}

/** Makes a method whose argument is a struct. @param {Method} method @param {Shape} shape @returns {Code} */
function structCode(method, shape) {
  const { ioctl, unwrap, key, returns } = method;
  const struct = shape.struct?.name ?? "";
  if (shape.direction === "out") {
    const read = `this.getStruct(${ioctl}, ${struct})`;
    const result = unwrap ? fieldType(shape, unwrap) : struct;
    const body = `return ${read}${unwrap ? `.${unwrap}` : ""};`;
    return { parameters: "", result, body, structs: [struct], types: [] };
  }
  const name = unwrap ?? key ?? "value";
  const type = (unwrap ?? key) ? fieldType(shape, name) : struct;
  const { input, types } = inputOf(method, shape, type);
  const value = (unwrap ?? key) ? `{ ${name} }` : "value";
  const call =
    shape.direction === "inout" ? "exchangeStruct" : method.whole ? "setWhole" : "setStruct";
  const single = unwrap ?? key;
  const required = single === undefined ? (method.needs ?? []) : [single];
  const needs = method.whole ? [] : required;
  const list = needs.length > 0 ? `, [${needs.map((one) => `"${one}"`).join(", ")}]` : "";
  const answers = shape.direction === "inout" || returns !== undefined;
  const result = shape.direction === "inout" ? struct : "number";
  const line = `this.${call}(${ioctl}, ${struct}, ${value}${list});`;
  const broken = needs.map((one) => `      "${one}",\n`).join("");
  // The formatter breaks lines of more than 100 columns, which include 4 columns of indentation.
  const send = line.length <= 96 ? line : line.replace(/\[.*\]/, `[\n${broken}    ]`);
  const each = (method.each ?? []).map((one) => `"${one}"`).join(", ");
  const check = method.each
    ? `this.expectEach(${ioctl}, "${name}", ${name}, [${each}]);\n    `
    : "";
  return {
    parameters: `${name}: ${input}`,
    result: answers ? result : "void",
    body: `${check}${answers ? "return " : ""}${send}`,
    structs: [struct],
    types,
  };
}

/**
 * Returns the type of a method's argument; throws if ioctl-methods.json does not list the fields that may be omitted.
 * @param {Method} method @param {Shape} shape @param {string} type
 */
function inputOf({ ioctl, unwrap, key, whole, needs, each, rest }, shape, type) {
  const isScalar = key !== undefined;
  if (isScalar) return { input: type, types: [] };
  const said = [whole, needs, each].filter((one) => one !== undefined).length;
  if (said !== 1)
    throw new Error(`${ioctl}: add whole, needs or each: which fields may be omitted?`);
  if ((needs ?? each) && rest === undefined)
    throw new Error(`${ioctl}: add rest: the reason why the other fields may be 0`);
  if (whole) return { input: `WholeStructInput<${type}>`, types: ["WholeStructInput"] };
  if (each) {
    const names = each.map((one) => `"${one}"`).join(" | ");
    return {
      input: `readonly StructInputWith<${type}[number], ${names}>[]`,
      types: ["StructInputWith"],
    };
  }
  const fields = needs ?? [];
  for (const name of fields) fieldType(shape, name);
  if (unwrap || fields.length === 0)
    return { input: `StructInput<${type}>`, types: ["StructInput"] };
  const names = fields.map((one) => `"${one}"`).join(" | ");
  return { input: `StructInputWith<${type}, ${names}>`, types: ["StructInputWith"] };
}

/** Makes the method that changes some fields of a state. @param {Method} method @param {Shape} shape @returns {Code} */
function patchCode({ ioctl }, shape) {
  const struct = shape.struct?.name ?? "";
  const get = ioctl.replace("_SET_", "_GET_");
  return {
    parameters: `patch: StructInput<${struct}>`,
    result: "void",
    body: `this.updateStruct(${get}, ${ioctl}, ${struct}, patch);`,
    structs: [struct],
    types: ["StructInput"],
  };
}

/** @param {Method} method @param {Shape} shape */
function codeOf(method, shape) {
  if (shape.kind === "none" || shape.kind === "value") return integerCode(method);
  if (!shape.struct) return wordCode(method, shape);
  return structCode(method, shape);
}

/** @param {string} name @param {Code} code @param {string[]} lines */
function printOne(name, { parameters, result, body }, lines) {
  const comment = lines.map((line) => `   * ${line}`.trimEnd());
  return [
    "  /**",
    ...comment,
    "   */",
    ...signature(name, parameters, result),
    `    ${body}`,
    "  }",
    "",
  ].join("\n");
}

/** Breaks a method's first line as the formatter does. @param {string} name @param {string} parameters @param {string} result */
function signature(name, parameters, result) {
  const line = `  ${name}(${parameters}): ${result} {`;
  return line.length <= 100 ? [line] : [`  ${name}(`, `    ${parameters},`, `  ): ${result} {`];
}

/** @param {Method} method @param {Shape} shape @param {keyof typeof classes} fd */
function printMethod(method, shape, fd) {
  const name = methodName(method.ioctl);
  const whole = printOne(name, codeOf(method, shape), card(method, shape, fd));
  if (!method.patch) return whole;
  const does = {
    ...method,
    does: `${method.patch} It reads the state, changes the fields that \`patch\` names, and writes it with ${method.ioctl}. Arrays are given as a whole.`,
  };
  const patch = printOne(
    name.replace(/^set/, "update"),
    patchCode(method, shape),
    card(does, shape, fd),
  );
  return `${whole}\n${patch}`;
}

/** @param {Iterable<string>} names */
const sorted = (names) => [...new Set(names)].toSorted((a, b) => (a < b ? -1 : 1));

/** @param {string[]} names @param {string} from */
function importLines(names, from) {
  return names.length === 0
    ? ""
    : `import {\n${names.map((name) => `  ${name},\n`).join("")}} from "${from}";\n`;
}

/** @param {string[]} names @param {string} file */
const typeImport = (names, file) =>
  names.length > 0 ? `import type { ${names.join(", ")} } from "../../abi/${file}.ts";\n` : "";

/**
 * Returns the text of one class, without its stamp.
 * @param {Shape[]} shapes @param {keyof typeof classes} fd
 */
function printClass(shapes, fd) {
  const mine = shapes.flatMap((shape) =>
    methods
      .filter(({ ioctl, fds }) => ioctl === shape.name && (fds ?? shape.fds).includes(fd))
      .filter(() => shape.fds.includes(fd))
      .map((method) => ({ method, shape })),
  );
  const codes = mine.flatMap(({ method, shape }) => [
    codeOf(method, shape),
    ...(method.patch ? [patchCode(method, shape)] : []),
  ]);
  const structs = sorted(codes.flatMap((code) => code.structs));
  const types = sorted(codes.flatMap((code) => code.types));
  return [
    importLines(
      sorted(
        mine.flatMap(({ method, shape }) => [
          shape.name,
          ...(method.patch ? [shape.name.replace("_SET_", "_GET_")] : []),
        ]),
      ),
      "../../abi/generated/ioctls.ts",
    ),
    importLines(structs, "../../abi/generated/structs.ts"),
    typeImport(
      types.filter((name) => name === "StructInput"),
      "struct",
    ),
    typeImport(
      types.filter((name) => name !== "StructInput"),
      "whole",
    ),
    'import { Handle } from "../handle.ts";\n\n',
    `/** Those ioctls of ${owners[fd]} whose argument is nothing, an integer or a plain struct. */\n`,
    `export abstract class ${classes[fd]} extends Handle {\n`,
    mine
      .map(({ method, shape }) => printMethod(method, shape, fd))
      .join("\n")
      .replace(/\n$/, ""),
    "\n}\n",
  ].join("");
}

/**
 * Returns the texts of all classes, each with the name of its file.
 * @param {Shape[]} shapes
 * @returns {Record<string, string>}
 */
export function printMethods(shapes) {
  for (const { ioctl } of methods) {
    const shape = shapes.find(({ name }) => name === ioctl);
    if (!shape) throw new Error(`ioctl-methods.json: ${ioctl} is not an x86 ioctl`);
    if (shape.links.length > 0) throw new Error(`${ioctl} needs a method by hand: it has links`);
  }
  return {
    "lib/kvm/generated/kvm-ioctls.ts": printClass(shapes, "sys"),
    "lib/kvm/generated/vm-ioctls.ts": printClass(shapes, "vm"),
    "lib/kvm/generated/vcpu-ioctls.ts": printClass(shapes, "vcpu"),
  };
}
