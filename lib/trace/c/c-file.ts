/** Collects the lines of an exported C file, and the definitions that these lines need. */
import { type Layout, type Scalar, scalars } from "../../abi/layout.ts";
import { cName, type Leaf, leafBytes, leavesOf, leavesOfElement } from "../leaf.ts";
import type { ObjectKind, ObjectRef } from "../record.ts";
import { type CStyle, type Dialect, PROGRAM, SELFTEST } from "./dialect.ts";
import { Definitions, hasField } from "./headers.ts";
import { comment } from "./literal.ts";
import { Tables } from "./tables.ts";

const indent = (line: string): string => (line === "" ? "" : `\t${line}`);

/** The lines and definitions of one C file, to which each step adds. */
export class CFile {
  readonly style: CStyle;
  /** Writes the statements of the file's style. */
  readonly dialect: Dialect;
  readonly tables: Tables = new Tables();
  readonly definitions: Definitions = new Definitions();
  /** The statements of main. */
  readonly lines: string[] = [];
  /** The size of the longest argument, in bytes. */
  argumentBytes = 8;
  readonly #declared: string[] = [];
  readonly #names = new Map<number, string>();
  readonly #kinds = new Map<number, ObjectKind>();
  /** The VM of each descriptor that a VM has created. */
  readonly #vms = new Map<number, number>();
  readonly #open = new Map<number, string>();
  readonly #counts = new Map<string, number>();
  readonly #memories = new Map<number, string>();
  readonly #unmaps: string[] = [];
  readonly #shapes = new Map<string, readonly string[]>();
  readonly #runs = new Map<number, string>();

  /** Creates an empty file. */
  constructor(style: CStyle) {
    this.style = style;
    this.dialect = { program: PROGRAM, selftest: SELFTEST }[style];
  }

  /** Adds lines to the function main. */
  add(...lines: readonly string[]): void {
    this.lines.push(...lines.map(indent));
  }

  /** Adds a block of statements to main; the block may have its own declarations. */
  block(about: string, lines: readonly string[]): void {
    this.add("", `/* ${comment(about)} */`, "{", ...lines.map(indent), "}");
  }

  /** Names a descriptor that a step created from another descriptor; the variable is declared at the start of main. */
  make(made: ObjectRef, on?: ObjectRef): string {
    const name = this.#nameFor(made, on);
    this.#names.set(made.id, name);
    this.#open.set(made.id, name);
    this.#kinds.set(made.id, made.kind);
    if (on?.kind === "vm") this.#vms.set(made.id, on.id);
    this.#declared.push(this.dialect.declaration(made.kind, name));
    return name;
  }

  /** Returns the variable of a descriptor; throws if the recording does not create it. */
  name(fd: ObjectRef): string {
    const name = this.#names.get(fd.id);
    if (name !== undefined) return name;
    throw new Error(
      `${fd.label} was created before the recording started, so a C file cannot create it`,
    );
  }

  /** Returns the expression for the number of a descriptor. */
  number(fd: ObjectRef): string {
    return this.dialect.number(this.#kinds.get(fd.id) ?? fd.kind, this.name(fd));
  }

  /** Closes a descriptor, and removes it from the list of open descriptors. */
  close(fd: ObjectRef): readonly string[] {
    const name = this.#open.get(fd.id);
    this.#open.delete(fd.id);
    if (name === undefined) return [];
    if (this.style === "selftest" && this.#isOfFramework(fd.id)) return this.#freed(fd.id);
    const run = this.#runs.get(fd.id);
    const unmap = run === undefined ? [] : [`munmap(${run}, ${run}_size);`];
    return [...unmap, `close(${name});`];
  }

  #isOfFramework(id: number): boolean {
    return ["vm", "vcpu"].includes(this.#kinds.get(id) ?? "");
  }

  /** Frees the VM of a closed descriptor if the VM and its vCPUs are closed, because the framework frees them together. */
  #freed(id: number): readonly string[] {
    const vm = this.#vms.get(id) ?? id;
    const vcpus = Array.from(this.#vms).filter(
      ([child, parent]) => parent === vm && this.#isOfFramework(child),
    );
    const isUsed = [vm, ...vcpus.map(([child]) => child)].some((each) => this.#open.has(each));
    return isUsed ? [] : [`kvm_vm_free(${this.#names.get(vm)});`];
  }

  /** Closes the descriptors that the recording left open, in reverse order, and then unmaps guest memory. */
  closeAll(): readonly string[] {
    const closed = Array.from(this.#open.keys())
      .reverse()
      .flatMap((id) => this.close({ id, kind: "other", label: "" }));
    return [...closed, ...this.#unmaps];
  }

  /**
   * Names a memory. Guest memory stays mapped until the end of main, because a slot may use the memory after the
   * recorded program has closed it.
   */
  makeMemory(id: number, byteLength: number): string {
    const name = `memory${id}`;
    this.#memories.set(id, name);
    this.#unmaps.push(`munmap(${name}, ${byteLength});`);
    this.#declared.push(`unsigned char *${name};`);
    return name;
  }

  /** Returns the expression for an offset into a memory. */
  memory(id: number, offset: number): string {
    const name = this.#memories.get(id) ?? `memory${id}`;
    return offset === 0 ? name : `${name} + 0x${offset.toString(16)}`;
  }

  /** Returns the pointer to a vCPU's kvm_run; `isNew` is true if the file must map kvm_run at this place. */
  run(vcpu: ObjectRef): { readonly name: string; readonly isNew: boolean } {
    const known = this.dialect.run(this.name(vcpu)) ?? this.#runs.get(vcpu.id);
    if (known !== undefined) return { name: known, isNew: false };
    const name = `${this.name(vcpu)}_run`;
    this.#runs.set(vcpu.id, name);
    this.#declared.push(`struct kvm_run *${name};`, `size_t ${name}_size;`);
    return { name, isNew: true };
  }

  /** Returns the variable of the open device, for ioctls that a helper function makes on /dev/kvm. */
  device(): string {
    const names = Array.from(this.#open.values());
    return names.find((name) => name.startsWith("kvm")) ?? "kvm";
  }

  /** Makes the argument buffer large enough for this number of bytes. */
  needRoom(bytes: number): void {
    this.argumentBytes = Math.max(this.argumentBytes, bytes);
  }

  /** Returns the name of the C description of a struct, which is defined at its first use. */
  shape(layout: Layout): string {
    const name = `shape_${layout.name}`;
    if (!this.#shapes.has(name)) this.#shapes.set(name, this.#shapeLines(layout, name));
    return name;
  }

  /** Returns the C definitions of all struct descriptions. */
  shapes(): readonly string[] {
    return Array.from(this.#shapes.values()).flat();
  }

  /** Returns the C declarations at the start of main. */
  declared(): readonly string[] {
    return this.#declared;
  }

  #nameFor(made: ObjectRef, on?: ObjectRef): string {
    const parent = on === undefined ? "" : (this.#names.get(on.id) ?? "");
    switch (made.kind) {
      case "sys":
        return this.#numbered("kvm", "sys");
      case "vm":
        return this.#numbered("vm", "vm");
      case "vcpu":
        return `${parent === "vm" ? "" : `${parent}_`}${this.#vcpu(made.label)}`;
      case "eventfd":
        return this.#numbered("event", "eventfd");
      case "file":
        return this.#numbered("file", "file");
      case "dev":
      case "stats":
      case "memfd":
      case "other":
        return this.#numbered(`${parent}_${made.kind}`, made.kind);
      default:
        return made.kind satisfies never;
    }
  }

  /** Returns the C variable of a vCPU: "vcpu 0" is vcpu0; a label without an id gets a new number. */
  #vcpu(label: string): string {
    const id = /^vcpu (\d+)$/.exec(label)?.[1];
    return id === undefined ? this.#numbered("vcpu_", "vcpu") : `vcpu${id}`;
  }

  /** Numbers the variables of a kind; the first variable has no number. */
  #numbered(base: string, kind: string): string {
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    return count === 1 ? base : `${base}${count}`;
  }

  #shapeLines(layout: Layout, name: string): readonly string[] {
    const fields = `fields_${layout.name}`;
    const own = [
      `static const struct field ${fields}[] = {`,
      ...fieldLines(layout.name, leavesOf(layout)),
      "};",
    ];
    const { tail } = layout;
    const count = (array: string): string =>
      this.style === "selftest" ? `ARRAY_SIZE(${array})` : `sizeof(${array}) / sizeof(${array}[0])`;
    const begin = [`static const struct shape ${name} = {`, `\tsizeof(struct ${layout.name}),`];
    if (tail === undefined) {
      return [...own, ...begin, `\t${fields}, ${count(fields)}, NULL, 0, NULL, 0,`, "};", ""];
    }
    const element = `element_${layout.name}`;
    return [
      ...own,
      `static const struct field ${element}[] = {`,
      ...elementLines(tail.element),
      "};",
      ...begin,
      `\t${fields}, ${count(fields)}, "${cName(tail.name)}",`,
      `\t${elementSize(tail.element)}, ${element}, ${count(element)},`,
      "};",
      "",
    ];
  }
}

function elementSize(element: Scalar | Layout): string {
  return typeof element === "string" ? `sizeof(__${element})` : `sizeof(struct ${element.name})`;
}

function elementLines(element: Scalar | Layout): readonly string[] {
  if (typeof element === "string") return [`\t{ "", 0, ${scalars[element].size}, 1 },`];
  return fieldLines(element.name, leavesOfElement(element));
}

/** Lists the fields of a struct; an overlapping field is listed only if it has bytes that no earlier field covers. */
function fieldLines(struct: string, leaves: readonly Leaf[]): readonly string[] {
  const covered = new Set<number>();
  return leaves.flatMap((leaf) => {
    const own = Array.from({ length: leafBytes(leaf) }, (_, i) => leaf.offset + i);
    if (leaf.bits === undefined && own.every((at) => covered.has(at))) return [];
    for (const at of own) covered.add(at);
    return [fieldLine(struct, leaf)];
  });
}

function fieldLine(struct: string, leaf: Leaf): string {
  const { size } = scalars[leaf.type];
  const isEverywhere = leaf.path.split(".").every((name) => hasField(struct, name));
  if (leaf.bits !== undefined || !isEverywhere) {
    return `\t{ "${leaf.path}", ${leaf.offset}, ${size}, ${leaf.count ?? 1} },`;
  }
  return leaf.count === undefined
    ? `\tFIELD(${struct}, ${leaf.path}),`
    : `\tARRAY(${struct}, ${leaf.path}, ${size}),`;
}
