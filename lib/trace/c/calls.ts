/** Exports an ioctl of a trace as C: its argument, the call, and the checks of its result. */
import { EnableCap } from "../../abi/generated/structs.ts";
import type { Ioctl } from "../../abi/ioctl.ts";
import { type Layout, scalars, sizeOfType, type Tail } from "../../abi/layout.ts";
import { offsetOf } from "../../abi/struct.ts";
import { cName, leavesOf } from "../leaf.ts";
import { ioctlOf } from "../line.ts";
import type { IoctlStep, LinkRecord } from "../record.ts";
import { isOfTheHost, varyingOf } from "../varying.ts";
import type { CFile } from "./c-file.ts";
import type { CallText } from "./dialect.ts";
import { hasField, hasStruct, isPointer } from "./headers.ts";
import { comment, declaration, initialiser, members, number, scalar, text } from "./literal.ts";

/** One call that is being exported. */
interface Call {
  readonly file: CFile;
  readonly step: IoctlStep;
  readonly number: number;
  readonly ioctl: Ioctl | undefined;
  /** The name of the request in C. */
  readonly request: string;
}

/** Adds an ioctl to the file. */
export function addIoctl(file: CFile, step: IoctlStep, stepNumber: number): void {
  const ioctl = ioctlOf(step.request, step.fd);
  const request = ioctl === undefined ? number(step.request) : file.definitions.ioctl(ioctl);
  const call: Call = { file, step, number: stepNumber, ioctl, request };
  const { before } = step;
  if (typeof before === "object") {
    file.block(`${stepNumber}: ${request} (${step.fd.label})`, bytesCall(call, before));
    return;
  }
  file.add(...around(call, send(call, integer(call, before), false)));
}

function integer({ file, ioctl }: Call, value: bigint | undefined): string {
  if (value === undefined) return "0";
  return ioctl?.name === "KVM_CHECK_EXTENSION"
    ? file.definitions.capability(Number(value))
    : number(value);
}

/**
 * Returns the C statements of the call, which check the result or, if the result is a descriptor, store it. `isStruct`:
 * whether the argument is a pointer to the ioctl's struct.
 */
function send(call: Call, argument: string, isStruct: boolean): readonly string[] {
  const { file, step, number: at, ioctl, request } = call;
  const text: CallText = {
    ...{ at, ioctl, request, argument, isStruct, result: step.result },
    kind: step.fd.kind,
    variable: file.name(step.fd),
    isOfTheHost: isHostCall(call),
    enables: enabledBy(call),
  };
  if (step.made === undefined) return file.dialect.call(text);
  return file.dialect.create(text, {
    kind: step.made.kind,
    variable: file.make(step.made, step.fd),
    argument: typeof step.before === "bigint" ? step.before : 0n,
    isResult: ioctl?.fdOffset === undefined,
  });
}

/** Returns the capability that a successful KVM_ENABLE_CAP enables. */
function enabledBy({ file, step, ioctl }: Call): string | undefined {
  const { before } = step;
  if (ioctl?.name !== "KVM_ENABLE_CAP" || typeof before !== "object" || step.result < 0) {
    return undefined;
  }
  return file.definitions.capability(Number(scalar("u32", before, offsetOf(EnableCap, "cap"))));
}

/** Whether the result describes the host, so that it may differ on another host. */
function isHostCall({ step, ioctl }: Call): boolean {
  return ioctl !== undefined && step.result >= 0 && isOfTheHost(ioctl.name, step.fd.kind);
}

/** Marks the checks of a result that describes the host, because it may differ on another host. */
function around(call: Call, lines: readonly string[]): readonly string[] {
  if (call.file.style === "selftest" || !isHostCall(call)) return lines;
  return ["about_host = 1;", ...lines, "about_host = 0;"];
}

function bytesCall(call: Call, before: Uint8Array): readonly string[] {
  const layout = call.ioctl?.struct;
  if (layout !== undefined && hasStruct(layout.name)) {
    const lines =
      call.ioctl?.kind === "tailed" && layout.tail !== undefined
        ? tailedCall(call, layout, layout.tail, before)
        : structCall(call, layout, before);
    if (lines !== undefined) return lines;
  }
  return plainCall(call, before);
}

/**
 * Returns the bytes to check: the bytes that the kernel wrote, or the unchanged argument if the kernel wrote nothing
 * but could have written. A selftest runs on any host, so it does not check bytes that describe the host.
 */
function wanted(call: Call, before: Uint8Array): Uint8Array | undefined {
  const { file, step, ioctl } = call;
  if (file.style === "selftest" && isHostCall(call)) return undefined;
  if (step.after !== undefined) return step.after;
  return ioctl?.direction === "out" || ioctl?.direction === "inout" ? before : undefined;
}

function structCall(call: Call, layout: Layout, before: Uint8Array): readonly string[] | undefined {
  if (before.length !== layout.size) return undefined;
  const { file, step, ioctl } = call;
  if (!step.links.every((link) => link.kind === "null" || hasPath(layout, cPath(link.field)))) {
    return undefined;
  }
  const variable = variableOf(layout);
  const sent = declaration(`struct ${layout.name} ${variable}`, layout, before);
  const answer = wanted(call, before);
  // The recording contains no addresses, so the C file checks that the kernel returns each passed address unchanged.
  const linked = step.links.filter(({ kind }) => kind !== "null").map(({ field }) => cPath(field));
  const wantHead = `${linked.length === 0 ? "static const " : ""}struct ${layout.name} want`;
  const want = answer === undefined ? [] : declaration(wantHead, layout, answer);
  if (sent === undefined || want === undefined) return undefined;
  const lines = [...sent.map((line) => namedCapability(file, layout, line)), ...want];
  lines.push(...linkDeclarations(file, step.links), "");
  for (const [i, link] of step.links.entries()) lines.push(...linkLines(file, variable, link, i));
  lines.push(...around(call, send(call, `&${variable}`, true)));
  if (ioctl?.fdOffset !== undefined && step.made !== undefined) {
    lines.push(`${file.name(step.made)} = ${variable}.fd;`);
  }
  if (answer !== undefined) {
    lines.push(...linked.map((path) => `want.${path} = ${variable}.${path};`));
    lines.push(...check(call, layout, answer, `&${variable}`, "&want"));
  }
  lines.push(...linkChecks(call));
  return lines;
}

/** Replaces the number of a capability by its name, in a struct kvm_enable_cap. */
function namedCapability(file: CFile, layout: Layout, line: string): string {
  if (layout.name !== "kvm_enable_cap") return line;
  return line.replace(
    /\.cap = (\w+)/,
    (_, cap) => `.cap = ${file.definitions.capability(Number(cap))}`,
  );
}

function tailedCall(
  call: Call,
  layout: Layout,
  tail: Tail,
  before: Uint8Array,
): readonly string[] | undefined {
  const { file, step } = call;
  const variable = variableOf(layout);
  const filled = fillStruct(file, layout, tail, variable, "argument", before);
  const answer = wanted(call, before);
  const expected =
    answer === undefined ? [] : fillStruct(file, layout, tail, "want", "recorded", answer);
  if (filled === undefined || expected === undefined) return undefined;
  const [declaration = "", ...rest] = filled;
  const [other = "", ...otherRest] = expected;
  return [
    declaration,
    ...(answer === undefined ? [] : [other]),
    "",
    ...rest,
    ...around(call, send(call, variable, true)),
    ...otherRest,
    ...(answer === undefined ? [] : check(call, layout, answer, variable, "want")),
    ...(step.links.length === 0 ? [] : ["/* the addresses in it are not recorded */"]),
  ];
}

/** Returns the declaration of a pointer to a struct with a tail, and the lines that fill the struct. */
function fillStruct(
  file: CFile,
  layout: Layout,
  tail: Tail,
  variable: string,
  place: "argument" | "recorded",
  bytes: Uint8Array,
): readonly string[] | undefined {
  const head = members(layout, bytes.subarray(0, layout.size));
  if (head === undefined) return undefined;
  const rest = bytes.subarray(layout.size);
  const { fill, kept } = trailing(rest, sizeOfType(tail.element));
  const lines = file.tables.fill(variable, tail, rest.subarray(0, kept));
  if (lines === undefined) return undefined;
  file.needRoom(bytes.length);
  const room = `sizeof(*${variable}), ${rest.length}, ${number(fill)}`;
  const isSimple = head.every(({ value }) => !value.startsWith("{"));
  const header = isSimple
    ? head.map(({ name, value }) => `${variable}->${name} = ${countText(tail, name, value)};`)
    : [`*${variable} = (struct ${layout.name})${initialiser(layout, bytes)};`];
  return [`struct ${layout.name} *${variable} = ${place}(${room});`, ...header, ...lines];
}

/** Writes a plausible count in decimal, and a larger number in hexadecimal. */
function countText(tail: Tail, name: string, value: string): string {
  const isCount = tail.count !== undefined && cName(tail.count) === name;
  return isCount && Number(value) < 10_000 ? String(Number(value)) : value;
}

/**
 * Returns the byte with which the end of an array is filled, and the number of bytes before this end, in whole
 * elements.
 */
function trailing(
  bytes: Uint8Array,
  size: number,
): { readonly fill: number; readonly kept: number } {
  const fill = bytes.at(-1) ?? 0;
  let kept = bytes.length;
  while (kept > 0 && bytes[kept - 1] === fill) kept -= 1;
  return { fill, kept: Math.min(bytes.length, Math.ceil(kept / size) * size) };
}

function plainCall(call: Call, before: Uint8Array): readonly string[] {
  const { file, step, ioctl } = call;
  file.needRoom(before.length);
  const answer = wanted(call, before);
  const isZero = before.every((byte) => byte === 0);
  const lines = [`unsigned char *bytes = argument(${before.length}, 0, 0);`];
  lines.push(...linkDeclarations(file, step.links), "");
  if (!isZero) {
    const name = file.tables.bytes(before, `argument_${call.number}`);
    lines.push(`memcpy(bytes, ${name}, sizeof(${name}));`);
  }
  for (const [i, link] of step.links.entries()) lines.push(...linkBytes(call, link, i));
  lines.push(...around(call, send(call, "bytes", false)));
  if (ioctl?.fdOffset !== undefined && step.made !== undefined) {
    lines.push(`memcpy(&${file.name(step.made)}, bytes + ${ioctl.fdOffset}, sizeof(int));`);
  } else if (answer !== undefined) {
    const name = file.tables.bytes(answer, `answer_${call.number}`);
    const what = text(`${call.request} (${file.name(step.fd)})`);
    const checks = [`check_bytes(${call.number}, ${what}, bytes, ${name}, sizeof(${name}));`];
    lines.push(...around(call, checks));
  }
  lines.push(...linkChecks(call));
  return lines;
}

function check(
  call: Call,
  layout: Layout,
  answer: Uint8Array,
  got: string,
  want: string,
): readonly string[] {
  const { file, step, ioctl } = call;
  const shape = file.shape(layout);
  const rows = ioctl === undefined ? [] : varyingOf(ioctl.name, answer);
  const declared =
    rows.length === 0
      ? []
      : [
          "static const struct varying varying[] = {",
          ...rows.map(
            ({ offset, mask, why }) => `\t{ ${offset}, 0x${mask.toString(16)}, ${text(why)} },`,
          ),
          "};",
          "",
        ];
  const varying = rows.length === 0 ? "NULL, 0" : `varying, ${rows.length}`;
  const what = text(`${call.request} (${file.name(step.fd)})`);
  const first = `check_answer(${call.number}, ${what}, &${shape}, ${answer.length}, `;
  const lines = around(call, [`${first}${got}, ${want}, ${varying});`]);
  return declared.length === 0
    ? lines
    : ["{", ...[...declared, ...lines].map((line) => (line === "" ? "" : `\t${line}`)), "}"];
}

function variableOf(layout: Layout): string {
  const short = layout.name.replace(/^kvm_/, "");
  return /^\d/.test(short) ? layout.name : short;
}

/** Converts a field's path to C names: `ranges[0].bitmap`. */
const cPath = (field: string): string => field.split(".").map(cName).join(".");

/** Whether the headers of all supported kernels have a field, by its path. */
function hasPath(layout: Layout, path: string): boolean {
  const names = path.split(".").map((name) => name.replace(/\[\d+\]$/, ""));
  return names.every((name, i) => hasField([layout.name, ...names.slice(0, i)].join("."), name));
}

/** Returns the offset of a field by its path, which may end with an index. */
function offsetOfPath(layout: Layout, path: string): number | undefined {
  const [, array = path, index = "0"] = /^(.*)\[(\d+)\]$/.exec(path) ?? [];
  const leaf = leavesOf(layout).find((candidate) => [path, array].includes(candidate.path));
  return leaf && leaf.offset + Number(index) * scalars[leaf.type].size;
}

function target(file: CFile, link: LinkRecord, index: number): string {
  switch (link.kind) {
    case "null":
      return "0";
    case "bytes":
      return `link${index}`;
    case "memory":
      return `(${file.memory(link.memory, link.offset)})`;
    case "fd":
      return file.number(link.fd);
    default:
      return link satisfies never;
  }
}

function linkDeclarations(file: CFile, links: readonly LinkRecord[]): readonly string[] {
  return links.flatMap((link, i) => {
    if (link.kind !== "bytes") return [];
    const name = file.tables.bytes(link.before, "pointed");
    return [`unsigned char link${i}[sizeof(${name})];`];
  });
}

/** Fills an address or a descriptor into a struct. */
function linkLines(
  file: CFile,
  variable: string,
  link: LinkRecord,
  index: number,
): readonly string[] {
  if (link.kind === "null") return [];
  const path = cPath(link.field);
  const place = `${variable}.${path}`;
  if (link.kind === "fd") return [`${place} = ${target(file, link, index)};`];
  const cast = isPointer(path.split(".").at(-1) ?? "") ? "(void *)" : "(uintptr_t)";
  return [...linkContent(file, link, index), `${place} = ${cast}${target(file, link, index)};`];
}

function linkContent(file: CFile, link: LinkRecord, index: number): readonly string[] {
  if (link.kind !== "bytes") return [];
  const name = file.tables.bytes(link.before, "pointed");
  return [`memcpy(link${index}, ${name}, sizeof(${name}));`];
}

/** Fills an address or a descriptor into bytes, for a struct that the old headers do not define. */
function linkBytes(call: Call, link: LinkRecord, index: number): readonly string[] {
  if (link.kind === "null") return [];
  const layout = call.ioctl?.struct;
  const offset = layout && offsetOfPath(layout, cPath(link.field));
  if (offset === undefined) return [`/* ${comment(link.field)} is not recorded */`];
  const type = link.kind === "fd" ? "int" : "unsigned long";
  const cast = link.kind === "fd" ? "" : "(unsigned long)";
  const value = `${cast}${target(call.file, link, index)}`;
  return [
    ...linkContent(call.file, link, index),
    `memcpy(bytes + ${offset}, &(${type}){ ${value} }, sizeof(${type}));`,
  ];
}

/** Returns the checks of the bytes that the kernel wrote at an address. */
function linkChecks({ file, step, number: at, request }: Call): readonly string[] {
  return step.links.flatMap((link, i) => {
    if (link.kind !== "bytes") return [];
    const name = file.tables.bytes(link.after ?? link.before, "pointed");
    const what = text(`${request}: ${cPath(link.field)}`);
    return [`check_bytes(${at}, ${what}, link${i}, ${name}, sizeof(${name}));`];
  });
}
