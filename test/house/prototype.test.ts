/**
 * Tests that lib/ finds a caller's name only among own properties. `in` and an index by a string would also find
 * `constructor` and `toString`. The test lists every `in` and every index by a string in lib/, with the reason why it
 * is safe.
 */
import { readdirSync } from "node:fs";
import { join, relative } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");
const LIB = join(PROJECT, "lib");

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  allowImportingTsExtensions: true,
  noEmit: true,
  skipLibCheck: true,
  strict: true,
  noUncheckedIndexedAccess: true,
  types: ["node"],
};

const OURS = "the object is made by this package, never by a caller";
const GUARDED = "the name was checked with Object.hasOwn before";
const TABLE = "the name is one of this package's own: a union, a layout's field, an ioctl's name";

const REGISTER = "the name is one of the four registers";

/** Folders that receive no names from programs: their inputs are values of this package. */
const OUTSIDE: readonly (readonly [folder: string, reason: string])[] = [
  ["cli/", "commander checks the choices"],
  ["explain/", "the names are those of ioctls, errnos and fields; a refusal is made by kvm/"],
  ["lab/", "the values are the lab's own, and errors of Node's"],
  ["report/", "the verdicts are this package's own"],
  ["trace/", "the records are made by kvm/"],
];

/** Every lookup by a string in the other folders: the file, the text, and the reason why the lookup is safe. */
const ALLOWED: Readonly<Record<string, readonly (readonly [text: RegExp, reason: string])[]>> = {
  "abi/codec.ts": [
    [/^"of" in type$/, OURS],
    [/^Symbol\.iterator in value$/, "an inherited iterator counts"],
    [/^scalars\[type\]$/, TABLE],
    [/^(header|value)\[(tail\.count|tail\.name|name|counter\.name)\]$/, TABLE],
  ],
  "abi/exits.ts": [[/^(KVM_EXIT_REASONS|EXITS)\[name\]$/, TABLE]],
  "abi/layout.ts": [
    [/^"(of|type)" in (type|field|field\.type)$/, OURS],
    [/^scalars\[type\]$/, TABLE],
  ],
  "abi/struct.ts": [[/^members\?\.\[[\w.]+\]$/, TABLE]],
  "abi/whole.ts": [
    [/^"of" in type$/, OURS],
    [/^(value|own|alone|written|\(value as Members\))\[.*\]$/, TABLE],
  ],
  "cpuid/apply.ts": [[/^entry\[(register|change\.kind)\]$/, TABLE]],
  "cpuid/baseline.ts": [[/^(entry|registers)\[register\]$/, REGISTER]],
  "cpuid/build-change.ts": [[/^e\[register\]$/, REGISTER]],
  "cpuid/build.ts": [
    [/^(wanted|most)\[name\]$/, TABLE],
    [/^values\[name\]$/, "the name is a key of the object itself"],
  ],
  "cpuid/builder.ts": [[/^e\[register\]$/, TABLE]],
  "cpuid/cache-values.ts": [[/^(KINDS\[kind\]|READERS\[.*\])$/, TABLE]],
  "cpuid/caches.ts": [
    [/^(TYPES\[type\]|domainsOf\(table\)\[sharedBy\])$/, GUARDED],
    [/^OTHER_CODE\[vendor\]$/, TABLE],
    [/^e\[register\]$/, REGISTER],
  ],
  "cpuid/check.ts": [[/^(e|supported\[locate\(.*\)\]\?\.)\[register\]$/, TABLE]],
  "cpuid/compare.ts": [
    [/^(entry|first|second|e)\[register\]$/, REGISTER],
    [/^CONSEQUENCES\[more\]$/, GUARDED],
  ],
  "cpuid/diff.ts": [[/^(pair\.\w+|x|y|e|WORDS)\[[\w.]+\]$/, TABLE]],
  "cpuid/entry.ts": [[/^[ab]\[register\]$/, TABLE]],
  "cpuid/feature-edits.ts": [[/^values\[name\]$/, "the name is a key of the object itself"]],
  "cpuid/features.ts": [[/^features\[state\]$/, TABLE]],
  "cpuid/field.ts": [[/^(CPUID_FIELDS|SIGNATURES)\[space\]$/, TABLE]],
  "cpuid/formats/c-array.ts": [[/^entry\[name\]$/, REGISTER]],
  "cpuid/formats/cpuid-queries.ts": [[/^[ab]\.entry\[name\]$/, REGISTER]],
  "cpuid/formats/firecracker.ts": [[/^e\[register\]$/, REGISTER]],
  "cpuid/formats/json-text.ts": [
    [/^LITERALS\[literal\]$/, "the pattern of literals permits true, false and null only"],
  ],
  "cpuid/formats/libcpuid.ts": [
    [/^ARRAYS\[name\]$/, GUARDED],
    [/^"first" in array$/, OURS],
  ],
  "cpuid/formats/libvirt.ts": [[/^e\[name\]$/, REGISTER]],
  "cpuid/formats/terminators.ts": [[/^(found|subleaves\.get\(0\)\?\.)\[register\]$/, REGISTER]],
  "cpuid/formats/text-rows.ts": [[/^entry\[register\]$/, REGISTER]],
  "cpuid/formats/virtualbox.ts": [
    [/^(sides|LABELS)\[side\]$/, "the word was compared with Gst and Hst before"],
  ],
  "cpuid/hypervisor.ts": [
    [/^BLOCKS\[kind\]$/, "the kind was searched in the list of kinds before"],
  ],
  "cpuid/kvm-treatment.ts": [[/^SENTENCES\[treatment\]$/, TABLE]],
  "cpuid/lint/family.ts": [
    [/^(e|e\?\.)\[register\]$/, REGISTER],
    [/^FAMILIES\[table\.vendor\]$/, TABLE],
  ],
  "cpuid/lint/fix.ts": [[/^e\[register\]$/, REGISTER]],
  "cpuid/lint/hypervisor.ts": [[/^OTHERS\[name\]$/, "the name is a key of the object itself"]],
  "cpuid/lint/kvm.ts": [
    [/^(e|other|allowed)\[register\]$/, REGISTER],
    [/^(name in UNREPORTED|vm\[fact\])$/, TABLE],
  ],
  "cpuid/lint/lint.ts": [
    [/^(need in MISSING|MISSING\[need as .*\]|input\[need\]|input\.vm\[need\..*\])$/, TABLE],
    [/^LINT_PROFILES\[profile\]$/, GUARDED],
    [
      /^LINT_PROFILES\[profile\]\.(off|severity)\[rule\.id\]$/,
      "the id is one of this package's own",
    ],
    [/^options\[key\]$/, TABLE],
  ],
  "cpuid/lint/sarif.ts": [[/^LEVELS\[severity\]$/, TABLE]],
  "cpuid/lint/structure.ts": [
    [/^(e|first|own|table\.entries\[position\]\?\.)\[register\]$/, REGISTER],
  ],
  "cpuid/lint/supported.ts": [[/^(e|has\?\.)\[register\]$/, REGISTER]],
  "cpuid/lint/table.ts": [
    [/^VENDORS\[text\]$/, GUARDED],
    [/^(this\.leaf\(fn, index\)\?\.|last|e)\[register\]$/, REGISTER],
    [/^found\[bits\.register\]$/, REGISTER],
  ],
  "cpuid/lint/text.ts": [[/^COMMANDS\[severity\]$/, TABLE]],
  "cpuid/lint/topology.ts": [[/^e\[register\]$/, REGISTER]],
  "cpuid/lint/xsave.ts": [[/^(view\[mask\]|GROUPS\[key\])$/, TABLE]],
  "cpuid/mask.ts": [
    [/^(host\?\.find\(e\.function, e\.index\)\?\.|registers)\[(register|name)\]$/, REGISTER],
  ],
  "cpuid/models/lookup.ts": [[/^WITHOUT_FEATURES\[name\]$/, GUARDED]],
  "cpuid/models/qemu.ts": [
    [/^properties\[key\]$/, "the name is a property that the importer requires"],
  ],
  "cpuid/models/table.ts": [[/^values\[name\]$/, "the name is a key of the object itself"]],
  "cpuid/needs.ts": [
    [/^(INSTRUCTION_FEATURES\[feature\]|WITHOUT_SUPPORT\[mnemonic\])$/, GUARDED],
    [/^table\.find\(fn, index\)\?\.\[register\]$/, REGISTER],
  ],
  "cpuid/portable.ts": [[/^SENTENCES\[kind\]$/, TABLE]],
  "cpuid/print.ts": [[/^e\[register\]$/, TABLE]],
  "cpuid/query.ts": [
    [/^(given|options)\[name\]$/, TABLE],
    [/^(registers|result)\[register\]$/, REGISTER],
  ],
  "cpuid/table.ts": [
    [/^(found|old)\[(wanted\.)?register\]$/, TABLE],
    [/^values\[name\]$/, "the name is a key of the object itself"],
  ],
  "cpuid/topology-values.ts": [[/^LEAVES\[.*\]$/, TABLE]],
  "cpuid/topology.ts": [[/^topology\[name\]$/, TABLE]],
  "cpuid/values.ts": [[/^found\[register\]$/, REGISTER]],
  "cpuid/walk.ts": [[/^(first|latest)\[extent\.register\]$/, REGISTER]],
  "cpuid/within.ts": [
    [/^(supported\[at\]\?\.\[register\]|(one\.entry|old)\[one\.register\])$/, REGISTER],
  ],
  "cpuid/xsave.ts": [[/^offset\?\.\[vendor\]$/, TABLE]],
  "errors.ts": [[/^STATE_ERRORS\[code\]$/, GUARDED]],
  "guest/assemble.ts": [[/^x86\.Instruction\[`createRep\w+\$\{letter\}`\]$/, TABLE]],
  "guest/builder.ts": [[/\[operation\]$/, TABLE]],
  "guest/instruction.ts": [
    [/^x86\.Code\[code\]$/, GUARDED],
    [/^\(x86\.Instruction as .*\)\[method\]$/, "the method's name is made from operand kinds"],
  ],
  "guest/program.ts": [[/^modes\[name\]$/, GUARDED]],
  "kvm/calls/capability.ts": [
    [/^(KVM_CAPABILITIES\[capability\]|table\[cap\])$/, GUARDED],
    [/^members\[name\]$/, TABLE],
  ],
  "kvm/evidence.ts": [[/^\{ ok: "kernel", ENXIO: "none" \}\[/, "the name is an errno's, or ok"]],
  "kvm/run/exit-filter.ts": [
    [/^given\[(only\.)?name\]$/, TABLE],
    [/^WRITES\[one\.write\]$/, GUARDED],
  ],
  "kvm/exits/exit.ts": [[/^(KVM_EXIT_REASONS|DECODERS)\[name\]$/, TABLE]],
  "kvm/exits/hypercall.ts": [[/^(info|TDX_INFO)\[name\]$/, TABLE]],
  "kvm/memory/guest-memory.ts": [
    [/^PAGE_SHIFTS\[hugePages\]$/, GUARDED],
    [/^ADVICES\[name as AdviceName\]$/, TABLE],
  ],
  "kvm/link.ts": [[/^"close" in value$/, "a class's close() is what is asked for"]],
  "kvm/run/run-page.ts": [
    [/^"of" in type$/, OURS],
    [/^\(value as .*\)\[name\]$/, TABLE],
  ],
  "kvm/state/state-part.ts": [[/^(part\.get\.capability|header)\[[\w.]+\]$/, TABLE]],
  "kvm/history.ts": [[/^KVM_CAPABILITIES\[name\]$/, TABLE]],
  "native.ts": [[/^(object\?\.\[method\]|exported\[name\])$/, TABLE]],
  "options.ts": [[/^members\[name\]$/, "the name is one of those that the caller requires"]],
  "page/browser/client.ts": [[/^"error" in reply$/, OURS]],
  "page/comparisons.ts": [[/^(TONES\[severity\]|RELATIONS\[relation\])$/, TABLE]],
  "page/engine.ts": [
    [/^answers\[op\]$/, "the requests are made by the page's own client"],
    [/^entry\[register\]$/, REGISTER],
  ],
  "state/check.ts": [[/^(set\.)?capability\[\w+\]$/, TABLE]],
  "state/shapeless.ts": [[/^FRAME\[fd\]$/, TABLE]],
  "state/read-back.ts": [
    [/^"(before|after)" in change$/, OURS],
    [/^inner\[[01]\]\[name\]$/, "the name is a key of one of the two objects"],
  ],
  "state/binary.ts": [[/^values\[name\]$/, TABLE]],
  "state/json-reader.ts": [
    [/^"of" in type$/, OURS],
    [/^(key in members|members\[name\])$/, TABLE],
  ],
  "state/json.ts": [
    [/^"of" in type$/, OURS],
    [/^(members|\(owner as Members\))\[name\]$/, TABLE],
  ],
  "state/parts.ts": [[/^SAVE_ORDER\[name\]$/, TABLE]],
  "state/schema.ts": [[/^"of" in type$/, OURS]],
  "explore/edits.ts": [[/^e\[register\]$/, REGISTER]],
  "explore/explore.ts": [[/^reach\[key\]$/, OURS]],
  "explore/generate.ts": [[/^"edits" in next$/, OURS]],
  "explore/guest-code.ts": [[/^pages\[page\]$/, TABLE]],
  "explore/kvm-subject.ts": [[/^(CR4_BITS\[bit\]|this\.#sregs\[name\])$/, TABLE]],
  "explore/mutants.ts": [[/^LIFECYCLE_RULES\[name\]$/, TABLE]],
  "explore/operation.ts": [[/^bases\[base\]$/, TABLE]],
  "explore/parse.ts": [
    [/^table\[name\]$/, GUARDED],
    [/^(given|options)\[name\]$/, TABLE],
  ],
  "explore/play.ts": [[/^"vcpu" in operation$/, OURS]],
  "explore/probes.ts": [[/^PROBES\[row\]$/, TABLE]],
  "explore/fingerprint.ts": [
    [/^(KERNEL_ROWS\[one\.row\]|TRAITS\[row\]|LIFECYCLE_STAGES\[decision\.stage\])$/, TABLE],
  ],
  "explore/shrink.ts": [
    [/^"(edits|vcpu)" in (operation|op)$/, OURS],
    [/^best\.vm\[name\]$/, TABLE],
  ],
  "explore/typescript.ts": [
    [/^(base\?\.|entry|needed)\[name\]$/, TABLE],
    [/^(SNIPPET_NAMES|CR4_MASKS)\[operation\.\w+\]$/, TABLE],
    [/^"vcpu" in operation$/, OURS],
  ],
  "explore/wording.ts": [[/^((entry|other)\[name\]|BY\[operation\.by\])$/, TABLE]],
  "oracle/lifecycle/kernel-rows.ts": [[/^KERNEL_ROWS\[name\]$/, TABLE]],
  "oracle/lifecycle/lookup.ts": [[/^found\[register\]$/, REGISTER]],
  "oracle/lifecycle/model.ts": [
    [/^(entry\[member\]|exits\[how\]|CR4_FEATURES\[bit\]|vcpu\[bit\])$/, TABLE],
  ],
  "oracle/lifecycle/stages.ts": [
    [/^(LIFECYCLE_STAGES\[name\]|holds\[row( as KernelRowName)?\])$/, TABLE],
  ],
  "oracle/lifecycle/updates.ts": [
    [/^(rules\.when\[row\.field\]|VALUES\[field\])$/, TABLE],
    [/^old\[register\]$/, REGISTER],
  ],
  "suite/expect.ts": [
    [/^vitests\(\)\[String\(name\)\]$/, "the name of an assertion, which vitest's prototype has"],
    [/^name in target$/, "a member of a function, which inherits call and apply"],
  ],
  "suite/faults.ts": [[/^REGISTER_BYTES\[ioctl\.name\]$/, GUARDED]],
  "suite/traits.ts": [
    [/^PROBES\[trait\]$/, TABLE],
    [/^(entry|stored)\[register\]$/, TABLE],
  ],
  "worker/message.ts": [[/^STATE_ERRORS\[code\]$/, "the code is a StateError's"]],
};

/** Returns the source texts of the lookups by a string in a file. */
function places(checker: ts.TypeChecker, file: ts.SourceFile): readonly string[] {
  const found: string[] = [];
  const add = (node: ts.Node): void => {
    found.push(node.getText().replaceAll(/\s+/g, " "));
  };
  const visit = (node: ts.Node): void => {
    if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.InKeyword) {
      if (!ts.isPrivateIdentifier(node.left)) add(node);
    }
    if (ts.isElementAccessExpression(node) && isByName(checker, node)) {
      add(node);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

/** Returns whether an index may be any string, and not only a number or one literal. */
function isByName(checker: ts.TypeChecker, node: ts.ElementAccessExpression): boolean {
  if (ts.isStringLiteralLike(node.argumentExpression)) return false;
  const type = checker.getTypeAtLocation(node.argumentExpression);
  const parts = type.isUnion() ? type.types : [type];
  return parts.some((part) => {
    const constraint = checker.getBaseConstraintOfType(part) ?? part;
    const all = constraint.isUnion() ? constraint.types : [constraint];
    return all.some((one) => (one.flags & ts.TypeFlags.StringLike) !== 0);
  });
}

const files = readdirSync(LIB, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
  .map((entry) => join(entry.parentPath, entry.name));
const program = ts.createProgram(files, OPTIONS);

/** Maps each file of lib/, except those in the folders of {@link OUTSIDE}, to its lookups by a string. */
const found = files
  .map((file) => [relative(LIB, file), program.getSourceFile(file)] as const)
  .filter(([name]) => !OUTSIDE.some(([folder]) => name.startsWith(folder)))
  .map(([name, source]) => {
    if (source === undefined) throw new Error(`no source ${name}`);
    return [name, places(program.getTypeChecker(), source)] as const;
  });

test("every lookup in an object by a caller's name is in the list of lookups", () => {
  const isAllowed = (name: string, text: string): boolean =>
    (Object.hasOwn(ALLOWED, name) ? (ALLOWED[name] ?? []) : []).some(([one]) => one.test(text));
  expect(
    found.flatMap(([name, texts]) =>
      texts.filter((text) => !isAllowed(name, text)).map((text) => `lib/${name}: ${text}`),
    ),
  ).toEqual([]);
});

test("every row of the list of lookups has a matching expression in the source", () => {
  const rows = Object.entries(ALLOWED).flatMap(([name, list]) =>
    list.map(([text]) => [name, text] as const),
  );
  const isThere = (name: string, text: RegExp): boolean =>
    found.some(([other, texts]) => other === name && texts.some((one) => text.test(one)));
  expect(rows.filter(([name, text]) => !isThere(name, text))).toEqual([]);
});

describe("the search for lookups by name", () => {
  const planted = (text: string): readonly string[] => {
    const host = ts.createCompilerHost(OPTIONS);
    const source = ts.createSourceFile("/planted.ts", text, ts.ScriptTarget.ES2023, true);
    const read = host.getSourceFile.bind(host);
    host.getSourceFile = (name, ...rest) => (name === "/planted.ts" ? source : read(name, ...rest));
    const made = ts.createProgram(["/planted.ts"], { ...OPTIONS, types: [] }, host);
    return places(made.getTypeChecker(), source);
  };

  test.each([
    ["const T = { a: 1 }; export const f = (s: string): boolean => s in T;", "s in T"],
    ['export const f = (x: object): boolean => "pio" in x;', '"pio" in x'],
    ["const T = { a: 1, b: 2 }; export const f = (s: 'a' | 'b'): number => T[s];", "T[s]"],
    ["export const f = (x: Record<string, number>, s: string) => x[s];", "x[s]"],
    ["export const f = <K extends string>(x: Record<K, number>, s: K): number => x[s];", "x[s]"],
  ])("finds %s", (text, place) => {
    expect(planted(text)).toEqual([place]);
  });

  test.each([
    "export const f = (x: number[], i: number) => x[i];",
    "export const f = (x: { a: number }): number => x['a'];",
    "export const f = (x: Map<string, number>, s: string) => x.get(s);",
    "export class A { #a = 1; static is(x: object): boolean { return #a in x; } }",
  ])("does not report %s", (text) => {
    expect(planted(text)).toEqual([]);
  });
});
