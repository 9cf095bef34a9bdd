/** Tests of the public surface: the names that the main entry exports, and rules for the names of all entries. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import { ENTRIES, Surface } from "./entries.ts";

const PROJECT = join(import.meta.dirname, "..", "..");
const read = (file: string): string => readFileSync(join(PROJECT, file), "utf8");

/**
 * The names of the values that the main entry exports. A new name is a promise to users: prefer to export it from the
 * entry of its folder.
 */
const ROOT_VALUES: readonly string[] = [
  "AddonError",
  "AddressSpace",
  "CoalescedRing",
  "CpuidTable",
  "Device",
  "DirtyRing",
  "EventFd",
  "GuestMemfd",
  "GuestMemory",
  "Handle",
  "Kvm",
  "KvmError",
  "RunPage",
  "STATE_ERRORS",
  "SevDevice",
  "StateError",
  "Stats",
  "Vcpu",
  "Vm",
  "defaultDevice",
  "dirtyAddresses",
  "dirtyPages",
  "errnoName",
  "explainExit",
  "fromSupported",
  "hostCpuid",
  "inspectable",
  "kickVcpu",
  "vendorModule",
];

/** The names of the types that the main entry exports: exits, inputs, options, and other types in public signatures. */
const ROOT_TYPES: readonly string[] = [
  "AbortOptions",
  "BareExit",
  "Capability",
  "ClearDirtyLogInput",
  "CoalescedWrite",
  "CommandLinkInput",
  "DebugExit",
  "DeviceAttrInput",
  "DirtyPage",
  "EmulationFailure",
  "EnableCapInput",
  "EncRegionInput",
  "ExceptionExit",
  "Exit",
  "ExitRuleInput",
  "FailEntryExit",
  "FileCapInput",
  "GuestMemoryAdvice",
  "GuestMemoryOptions",
  "HwExit",
  "HypercallExit",
  "HypervEventfdInput",
  "HypervHcallExit",
  "HypervSyndbgExit",
  "HypervSynicExit",
  "InternalErrorExit",
  "IoInExit",
  "IoOutExit",
  "IoapicEoiExit",
  "IoctlArgument",
  "IoctlOptions",
  "IoeventfdInput",
  "IrqfdInput",
  "KvmErrorInput",
  "LinkInput",
  "MapFileOptions",
  "MemoryEncryptOpInput",
  "MemoryFaultExit",
  "MemoryLinkInput",
  "MemoryPlace",
  "MemorySlot",
  "MmioReadExit",
  "MmioRuleInput",
  "MmioWriteExit",
  "MsrFilterInput",
  "MsrFilterRangeInput",
  "MsrRuleInput",
  "NamedCapInput",
  "NotifyExit",
  "OpenFile",
  "OpenOptions",
  "PioRuleInput",
  "PlainCapInput",
  "RawCapInput",
  "RdmsrExit",
  "RestoreStateOptions",
  "RunSyncOptions",
  "SaveStateOptions",
  "SetCpuid2Options",
  "SetTprExit",
  "SnpReqCertsExit",
  "StateErrorCode",
  "StatsDescriptor",
  "SystemEventExit",
  "TakeWrite",
  "TdxCall",
  "TdxGetQuoteExit",
  "TdxGetTdvmcallInfoExit",
  "TdxReply",
  "TdxSetupEventNotifyExit",
  "TdxTdvmcallInfoInput",
  "TdxUnknownExit",
  "TprAccessExit",
  "UnknownExit",
  "UserspaceMemoryRegion2Input",
  "UserspaceMemoryRegionInput",
  "VendorModule",
  "WrmsrExit",
  "XenBlobsInput",
  "XenHcallExit",
  "XenHvmFilesInput",
];

/** Types that only abbreviate a signature inside one file; the compiler and the API reference expand them. */
const ABBREVIATIONS: readonly string[] = [
  "Arguments in kvm/calls/capability.d.ts",
  "OneOf in abi/whole.d.ts",
  "PaddingName in abi/whole.d.ts",
  "PlainFormatName in cpuid/formats/index.d.ts",
  "UnionStruct in abi/whole.d.ts",
];

const surface = new Surface(ENTRIES);

describe("the main entry of the package exports exactly the listed", () => {
  test("values", () => {
    expect(surface.names(".", "values")).toEqual(ROOT_VALUES);
  });

  test("types", () => {
    expect(surface.names(".", "types")).toEqual(ROOT_TYPES);
  });
});

test("no name has different meanings in two entries of the package", () => {
  expect(surface.exported.length).toBeGreaterThan(1000);
  expect(surface.ambiguous()).toEqual([]);
});

test("an entry of the package exports every type that a public signature names", () => {
  expect(surface.unreachable()).toEqual(ABBREVIATIONS);
});

describe.each(Array.from(ENTRIES.keys()))("the package's entry %s", (entry) => {
  const declaration = ENTRIES.get(entry) ?? "";
  const source = read(
    relative(PROJECT, declaration).replace("dist", "lib").replace(".d.ts", ".ts"),
  );
  const name = join("node-kvm", entry);

  test("is one file with a docstring that has the entry's name", () => {
    expect(source).toMatch(/^\/\*\*/);
    expect(source.slice(0, source.indexOf("*/"))).toContain(`The entry \`${name}\``);
  });

  test("exports its names one by one, except for generated names", () => {
    const stars = source.matchAll(/export (?:type )?\* from "\.\/(?!generated\/)[^"]*"/g);
    expect(Array.from(stars, ([star]) => star)).toEqual([]);
  });

  test("has a row in the README's table of entries", () => {
    expect(read("README.md")).toContain(`\n| \`${name}\``);
  });
});

test("a public class has no protected member except its constructor", () => {
  const files = readdirSync(join(PROJECT, "dist"), { recursive: true, encoding: "utf8" });
  const found = files
    .filter((file) => file.endsWith(".d.ts"))
    .flatMap((file) => protectedMembers(file, read(join("dist", file))));
  expect(found).toEqual([]);
});

function protectedMembers(file: string, text: string): readonly string[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
  return source.statements.filter(ts.isClassDeclaration).flatMap(({ name, members }) =>
    members
      .filter((member) => (ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Protected) !== 0)
      .filter((member) => !ts.isConstructorDeclaration(member))
      .map((member) => `${file}: ${name?.text}.${member.name?.getText()}`),
  );
}

describe("the check of the public surface finds a planted fault:", () => {
  /** Treats source texts as built declarations; each `./name` is an entry. */
  const planted = (files: Readonly<Record<string, string>>): Surface => {
    const host = ts.createCompilerHost({});
    const [honest, exists] = [host.getSourceFile.bind(host), host.fileExists.bind(host)];
    host.fileExists = (file) => Object.hasOwn(files, file) || exists(file);
    host.getSourceFile = (file, ...rest) => {
      const text = files[file];
      if (text === undefined) return honest(file, ...rest);
      return ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
    };
    const entries = Object.keys(files).filter((file) => !file.includes("part"));
    return new Surface(new Map(entries.map((file) => [file, file])), host);
  };

  test("a name with two meanings is reported, but not a name that is exported twice", () => {
    const found = planted({
      "/a.d.ts": 'export interface Step { a: 1 } export { Same } from "./part.js";',
      "/b.d.ts": 'export interface Step { b: 1 } export { Same } from "./part.js";',
      "/part.d.ts": "export interface Same { c: 1 }",
    });
    expect(found.ambiguous()).toEqual(["Step: /a.d.ts /b.d.ts"]);
  });

  test("a type that no entry exports is reported in a signature, in a member and in a base class's member", () => {
    const found = planted({
      "/a.d.ts": [
        'import type { One, Two, Three, Base } from "./part.js";',
        "export declare function f(one: One): void;",
        "export declare class C extends Base { two: readonly Two[]; }",
      ].join("\n"),
      "/part.d.ts": [
        "export interface One { one: 1 }",
        "export interface Two { two: 2 }",
        "export interface Three { three: 3 }",
        "export declare class Base { three(): Three; }",
      ].join("\n"),
    });
    expect(found.unreachable().map((one) => one.split(" ")[0])).toEqual(["One", "Three", "Two"]);
  });

  test("a protected member is reported", () => {
    const text = "export declare class C { protected constructor(); protected get fd(): number; }";
    expect(protectedMembers("c.d.ts", text)).toEqual(["c.d.ts: C.fd"]);
  });
});
