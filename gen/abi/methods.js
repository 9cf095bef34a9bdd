/**
 * Shapes and ioctl-methods.json in, lib/kvm/generated/*-ioctls.ts out: for each kind of descriptor a
 * class with the methods that say nothing but their ioctl. The others are written by hand in lib/kvm.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { camelCase } from "./layouts.js";

/**
 * @typedef {import("./shapes.js").Shape} Shape
 * @typedef {{ ioctl: string, fds?: string[], does: string, parameter?: string,
 *   parameterIs?: string, unwrap?: string, key?: string, returns?: string,
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
    "",
    ...parameter,
    ...(method.returns ? lines(`@returns ${method.returns}.`, "  ") : []),
    `@ioctl ${method.ioctl} (${where.join("; ")})`,
    ...(reasons.length > 0 ? lines(`@throws {@link KvmError} ${reasons.join("; ")}.`, "  ") : []),
  ];
}

/** A method that gives an integer, or nothing. @param {Method} method @returns {Code} */
function integerCode({ ioctl, parameter, returns }) {
  const argument = parameter ? `, ${parameter}, { args: { ${parameter} } }` : "";
  return {
    parameters: parameter ? `${parameter}: number` : "",
    result: returns ? "number" : "void",
    body: `${returns ? "return " : ""}this.ioctl(${ioctl}${argument});`,
    structs: [],
    types: [],
  };
}

/** A method whose argument is eight bytes. @param {Method} method @param {Shape} shape @returns {Code} */
function wordCode({ ioctl, parameter }, shape) {
  if (shape.size !== 8) throw new Error(`${ioctl}: no struct for ${shape.size} bytes`);
  const isGet = shape.direction === "out";
  return {
    parameters: isGet ? "" : `${parameter}: bigint`,
    result: isGet ? "bigint" : "void",
    body: isGet
      ? `return this.getU64(${ioctl});`
      : `this.setU64(${ioctl}, ${parameter}, { ${parameter} });`,
    structs: [],
    types: [],
  };
}

/** Says the TypeScript type of a struct's one field. @param {Shape} shape @param {string} name */
function fieldType(shape, name) {
  const { struct } = shape;
  const field = struct?.fields.find((candidate) => candidate.name === name);
  if (!struct || !(field || struct.tail?.name === name)) {
    throw new Error(`${shape.name}: no field ${name}`);
  }
  return `${struct.name}["${name}"]`;
}

/** A method whose argument is a struct. @param {Method} method @param {Shape} shape @returns {Code} */
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
  const isScalar = key !== undefined;
  const input = isScalar ? type : `StructInput<${type}>`;
  const value = (unwrap ?? key) ? `{ ${name} }` : "value";
  const call = shape.direction === "inout" ? "exchangeStruct" : "setStruct";
  const answers = shape.direction === "inout" || returns !== undefined;
  const result = shape.direction === "inout" ? struct : "number";
  return {
    parameters: `${name}: ${input}`,
    result: answers ? result : "void",
    body: `${answers ? "return " : ""}this.${call}(${ioctl}, ${struct}, ${value});`,
    structs: [struct],
    types: isScalar ? [] : ["StructInput"],
  };
}

/** @param {Method} method @param {Shape} shape */
function codeOf(method, shape) {
  if (shape.kind === "none" || shape.kind === "value") return integerCode(method);
  if (!shape.struct) return wordCode(method, shape);
  return structCode(method, shape);
}

/** @param {Method} method @param {Shape} shape @param {keyof typeof classes} fd */
function printMethod(method, shape, fd) {
  const { parameters, result, body } = codeOf(method, shape);
  const comment = card(method, shape, fd).map((line) => `   * ${line}`.trimEnd());
  return [
    "  /**",
    ...comment,
    "   */",
    `  ${methodName(method.ioctl)}(${parameters}): ${result} {`,
    `    ${body}`,
    "  }",
    "",
  ].join("\n");
}

/** @param {Iterable<string>} names */
const sorted = (names) => [...new Set(names)].toSorted((a, b) => (a < b ? -1 : 1));

/** @param {string[]} names @param {string} from */
function importLines(names, from) {
  return names.length === 0
    ? ""
    : `import {\n${names.map((name) => `  ${name},\n`).join("")}} from "${from}";\n`;
}

/**
 * Makes one class, without its stamp.
 * @param {Shape[]} shapes @param {keyof typeof classes} fd
 */
function printClass(shapes, fd) {
  const mine = shapes.flatMap((shape) =>
    methods
      .filter(({ ioctl, fds }) => ioctl === shape.name && (fds ?? shape.fds).includes(fd))
      .filter(() => shape.fds.includes(fd))
      .map((method) => ({ method, shape })),
  );
  const codes = mine.map(({ method, shape }) => codeOf(method, shape));
  const structs = sorted(codes.flatMap((code) => code.structs));
  const types = sorted(codes.flatMap((code) => code.types));
  return [
    importLines(sorted(mine.map(({ shape }) => shape.name)), "../../abi/generated/ioctls.ts"),
    importLines(structs, "../../abi/generated/structs.ts"),
    types.length > 0 ? `import type { ${types.join(", ")} } from "../../abi/struct.ts";\n` : "",
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
 * Makes every class, by its file.
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
