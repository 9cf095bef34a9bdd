/**
 * Generates a C program for every struct of the kernel's headers, without this package's layouts. The program reads the
 * fields of given bytes, and writes given fields to bytes. c-structs.ts has the names and types.
 */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type CField, type CStruct, inC, structOf } from "./c-structs.ts";
import type { Members } from "./values.ts";

type Structs = ReadonlyMap<string, CStruct>;

const { NODE_KVM_UAPI } = process.env;
const headers = NODE_KVM_UAPI ?? join(import.meta.dirname, "../../../../shared/data/uapi-7.2");
const has = (program: string): boolean => spawnSync(program, ["--version"]).status === 0;

/** Lists what the C program needs and this machine does not have: the kernel's headers, or gcc. */
export const missing: readonly string[] = [
  ...(existsSync(headers) ? [] : ["Linux 7.2 UAPI headers (NODE_KVM_UAPI names them)"]),
  ...(has("gcc") ? [] : ["gcc"]),
];

const START = `
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define EACH(i, count) for (size_t i = 0, n##i = (count); i < n##i; i++)
/* How many elements of a flexible array there are until the struct's end. */
#define FLEXIBLE(array) ((size_t)(end - (const unsigned char *)(array)) / sizeof((array)[0]))
static const unsigned char *end;

static unsigned long long number(void) {
  unsigned long long value;
  if (scanf("%llu", &value) != 1) exit(2);
  return value;
}

/* The struct that is asked about, and how many elements are given: C cannot write too many. */
static const char *asked;
static size_t given(size_t most) {
  size_t count = number();
  if (count > most) fprintf(stderr, "%s: %zu elements for %zu\\n", asked, count, most);
  if (count > most) exit(3);
  return count;
}
`;

const MAIN = `
int main(void) {
  char what;
  size_t which, size;
  while (scanf(" %c %zu %zu", &what, &which, &size) == 3) {
    /* Never less than C has: a wrong size is for generated.test.ts to see, not for a crash. */
    unsigned char *bytes = calloc(size < sizes[which] ? sizes[which] : size, 1);
    if (bytes == NULL) return 1;
    end = bytes + size;
    asked = names[which];
    EACH(i, size) bytes[i] = number();
    if (what == 'r') {
      reads[which](bytes);
    } else {
      writes[which](bytes);
      EACH(i, size) printf("%02x", bytes[i]);
    }
    putchar('\\n');
    free(bytes);
  }
  return 0;
}
`;

/** The names of a struct's type and functions in the C program. */
const idOf = (name: string): string => name.replaceAll(".", "__");

/** Returns C code that prints one integer as a JSON string. */
function readInteger(type: string, at: string): string {
  if (type === "pointer") return `printf("\\"%llu\\"", (unsigned long long)(uintptr_t)${at});`;
  if (type === "char") return `printf("\\"%u\\"", (unsigned char)${at});`;
  return type.startsWith("s")
    ? `printf("\\"%lld\\"", (long long)${at});`
    : `printf("\\"%llu\\"", (unsigned long long)${at});`;
}

const writeInteger = (type: string, at: string): string =>
  type === "pointer" ? `${at} = (void *)(uintptr_t)number();` : `${at} = number();`;

const lengthOf = (length: number | undefined, at: string): string =>
  length === 0 ? `FLEXIBLE(${at})` : `${length}`;

/** Returns C code that reads a field, or its elements. */
function readField(field: CField, at: string, dims: readonly number[]): string {
  const { inner, type } = field;
  if (dims.length > 0) {
    const i = `i${dims.length}`;
    const one = readField(field, `${at}[${i}]`, dims.slice(1));
    const each = `EACH(${i}, ${lengthOf(dims[0], at)}) { if (${i}) putchar(','); ${one} }`;
    return `putchar('['); ${each} putchar(']');`;
  }
  return inner === undefined ? readInteger(type, at) : `read_${idOf(inner)}(&${at});`;
}

/** Returns C code that writes a field, or its elements. */
function writeField(field: CField, at: string, dims: readonly number[]): string {
  const { inner, type } = field;
  if (dims.length > 0) {
    const i = `i${dims.length}`;
    const one = writeField(field, `${at}[${i}]`, dims.slice(1));
    return `EACH(${i}, given(${lengthOf(dims[0], at)})) { ${one} }`;
  }
  return inner === undefined ? writeInteger(type, at) : `write_${idOf(inner)}(&${at});`;
}

function functionsOf({ name, fields }: CStruct): string {
  const id = idOf(name);
  const reads = fields.map((field, i) => {
    const key = `printf("${i === 0 ? "" : ","}\\"${field.name}\\":");`;
    return `  ${key} ${readField(field, field.at, field.dims)}\n`;
  });
  const writes = fields.map(
    (field) => `  if (number()) { ${writeField(field, field.at, field.dims)} }\n`,
  );
  return (
    `static void read_${id}(const void *bytes) {\n` +
    `  const t_${id} *p = bytes;\n  putchar('{');\n${reads.join("")}  putchar('}');\n}\n` +
    `static void write_${id}(void *bytes) {\n  t_${id} *p = bytes;\n${writes.join("")}}\n`
  );
}

function programOf(structs: Structs, declarations: string): string {
  const all = [...structs.values()];
  const ids = all.map(({ name }) => idOf(name));
  return [
    START,
    declarations,
    ...all.map(({ name, type }) => `typedef ${type} t_${idOf(name)};`),
    ...ids.map((id) => `static void read_${id}(const void *);\nstatic void write_${id}(void *);`),
    ...all.map(functionsOf),
    `static const char *const names[] = {${all.map(({ name }) => `"${name}"`).join(", ")}};`,
    `static const size_t sizes[] = {${ids.map((id) => `sizeof(t_${id})`).join(", ")}};`,
    `static void (*const reads[])(const void *) = {${ids.map((id) => `read_${id}`).join(", ")}};`,
    `static void (*const writes[])(void *) = {${ids.map((id) => `write_${id}`).join(", ")}};`,
    MAIN,
  ].join("\n");
}

/**
 * Lists the numbers that the functions write_… read. For each field: 1 if the value contains the field, otherwise 0;
 * then the number of elements, and the elements.
 */
function numbersOf(structs: Structs, name: string, given: Members): readonly string[] {
  return structOf(structs, name).fields.flatMap(({ name: field, inner }) => {
    const flat = (value: unknown): readonly string[] => {
      if (Array.isArray(value)) return [String(value.length), ...value.flatMap(flat)];
      return inner === undefined ? [String(value)] : numbersOf(structs, inner, value as Members);
    };
    return given[field] === undefined ? ["0"] : ["1", ...flat(given[field])];
  });
}

/** The name of a struct, a value of the struct, and the bytes before and after this package wrote the value. */
export interface Question {
  readonly name: string;
  readonly value: Members;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

/**
 * The program's answer: every field that C reads in this package's bytes, and the bytes after C wrote the value, in
 * hexadecimal.
 */
export interface Answer {
  readonly fields: Members;
  readonly bytes: string;
}

/** Compiles the program in a directory that the caller owns. */
export class CProgram {
  readonly #path: string;
  readonly #structs: Structs;

  constructor(directory: string, structs: Structs, declarations: string) {
    this.#path = join(directory, "structs");
    this.#structs = structs;
    const options = ["-std=gnu11", "-Wall", "-Werror", "-O1", "-I", headers];
    execFileSync("gcc", [...options, "-x", "c", "-", "-o", this.#path], {
      input: programOf(structs, declarations),
    });
  }

  /** Answers all questions in one run of the program. */
  ask(questions: readonly Question[]): readonly Answer[] {
    const names = [...this.#structs.keys()];
    const input = questions.flatMap(({ name, value, before, after }) => {
      const which = `${names.indexOf(name)} ${after.length}`;
      const given = inC(this.#structs, name, value);
      return [
        `r ${which} ${after.join(" ")}`,
        `w ${which} ${before.join(" ")} ${numbersOf(this.#structs, name, given).join(" ")}`,
      ];
    });
    const output = execFileSync(this.#path, {
      input: `${input.join("\n")}\n`,
      encoding: "utf8",
      maxBuffer: 2 ** 28,
    });
    const lines = output.trimEnd().split("\n");
    return questions.map((_, i) => ({
      fields: JSON.parse(lines[2 * i] ?? "") as Members,
      bytes: lines[2 * i + 1] ?? "",
    }));
  }
}
