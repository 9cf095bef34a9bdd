/**
 * Tests that call each public function with wrong arguments. The error must be an error of this package that names the
 * argument, and not an error of V8 such as "Cannot read properties of null". The tests need no KVM.
 */
import { expect, test } from "vitest";
import { KVM_NMI } from "../../../lib/abi/generated/ioctls.ts";
import * as index from "../../../lib/index.ts";
import * as machine from "../../../lib/machine/index.ts";
import { fakeHandles } from "./fake-fd.ts";

type Call = (...args: readonly unknown[]) => unknown;

/** Returns an object on which every access to a member throws, including members that the code does not expect. */
const trap = new Proxy(
  {},
  {
    get: () => {
      throw new Error("a getter's own error");
    },
  },
);

const HOSTILE: readonly (readonly [name: string, value: unknown])[] = [
  ["undefined", undefined],
  ["null", null],
  ["a bigint", 5n],
  ["a symbol", Symbol("hostile")],
  ["a function", () => undefined],
  ["an object that throws", trap],
  ["a list of null", [null]],
  ["a list of symbols", [Symbol("hostile")]],
];

/** Matches V8's messages for errors of code that does not check its arguments. */
const OF_V8 =
  /Cannot (?:read|set|mix|destructure|convert|access|use 'in')|(?:is|are) not (?:a function|iterable|a constructor|an object)|must be (?:called|an instance)|undefined \(|Invalid (?:array|typed array) length|Class constructor|Reduce of empty/;

/** Valid arguments that precede a wrong argument. */
const ARGUMENTS: Readonly<Record<string, readonly unknown[]>> = {
  "Vcpu.getDeviceAttr": [{ group: 0, attr: 0 }],
  "Kvm.getDeviceAttr": [{ group: 0, attr: 0 }],
  "Device.getDeviceAttr": [{ group: 0, attr: 0 }],
  "Vcpu.setDeviceAttr": [{ group: 0, attr: 0 }],
  "Device.setDeviceAttr": [{ group: 0, attr: 0 }],
  "Vcpu.explainMsrs": [[{ index: 1 }]],
  "Vcpu.restoreState": [{ id: 0 }],
  "Vm.getDirtyLog": [0],
  "Kvm.ioctl": [KVM_NMI, undefined],
  "Vm.ioctl": [KVM_NMI, undefined],
  "Vcpu.ioctl": [KVM_NMI, undefined],
  "Device.ioctl": [KVM_NMI, undefined],
  "AddressSpace.read": [0],
  "AddressSpace.write": [0],
  "AddressSpace.window": [0],
  "GuestMemory.read": [0],
  "GuestMemory.write": [0],
  "GuestMemory.window": [0],
  "CpuidTable.get": ["avx"],
  "CpuidTable.with": [{ avx: 1 }],
  "CpuidTable.replace": [0],
  explainExit: [{ kind: "shutdown" }],
  mapRam: [fakeHandles().vm, 4096],
  ramRegions: [4096],
  fromSupported: [[]],
  dirtyAddresses: [new Uint8Array(8)],
};

/** Calls that may fail with an error of V8, each with the reason. */
const ALLOWED: readonly (readonly [call: RegExp, reason: string])[] = [
  [/^new (?:Addon|State|Restore|StateDocument)Error/, "only this package makes them"],
  [/^Vcpu\.dirtyRing/, "it takes no arguments, and the fake descriptor has no ring"],
];

/** Lists the public methods of an object and of its classes, except for methods that only end the object. */
function methodsOf(value: object): readonly string[] {
  const names = new Set<string>();
  for (let at: object = value; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const [name, { value: member }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (typeof member === "function" && name !== "constructor") names.add(name);
    }
  }
  return Array.from(names);
}

/** Methods that are protected in TypeScript, which no program may call. */
const PROTECTED = new Set(
  (
    "call openFd getStruct setStruct setWhole updateStruct exchangeStruct expectEach expectNumber " +
    "getU64 setInteger setU64 refusal evidence parent accepted history"
  ).split(" "),
);

/** Lists every function that a program can call, by name; each call gets a new object. */
function calls(): ReadonlyMap<string, () => Call> {
  const found = new Map<string, () => Call>();
  const add = (owner: string, make: () => object): void => {
    for (const name of methodsOf(make())) {
      if (PROTECTED.has(name)) continue;
      found.set(`${owner}.${name}`, () => {
        const made = make();
        const method = Reflect.get(made, name) as Call;
        return (...args) => method.apply(made, [...args]);
      });
    }
  };
  for (const [name, value] of Object.entries({ ...index, ...machine })) {
    if (typeof value !== "function") continue;
    const isClass = /^class\b/.test(Function.prototype.toString.call(value));
    if (!isClass) {
      found.set(name, () => value as Call);
      continue;
    }
    found.set(
      `new ${name}`,
      () =>
        (...args) =>
          Reflect.construct(value, args),
    );
    for (const own of Object.getOwnPropertyNames(value)) {
      const method: unknown = Reflect.get(value, own);
      if (typeof method !== "function") continue;
      found.set(
        `${name}.${own}`,
        () =>
          (...args) =>
            Reflect.apply(method, value, args),
      );
    }
  }
  add("Kvm", () => fakeHandles().kvm);
  add("Vm", () => fakeHandles().vm);
  add("Vcpu", () => fakeHandles().vcpu);
  add("Device", () => fakeHandles().device);
  add("AddressSpace", () => fakeHandles().vm.memory);
  add("RunPage", () => fakeHandles().vcpu.lowLevel());
  add("CpuidTable", () => index.CpuidTable.from([{ function: 1 }]));
  add("EventFd", () => index.EventFd.create());
  add("GuestMemory", () => index.GuestMemory.allocate(4096));
  return found;
}

/** Returns the message with which a call fails, immediately or after a short time. */
async function failure(call: Call, args: readonly unknown[]): Promise<string | undefined> {
  try {
    const result = call(...args);
    // A run of a fake vCPU does not end by itself.
    await Promise.race([result, new Promise(setImmediate)]);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : "no error";
  }
}

test("no public method fails with an error of V8 itself for a wrong argument", async () => {
  const unworded: string[] = [];
  for (const [name, make] of calls()) {
    for (const [kind, value] of HOSTILE) {
      const right = ARGUMENTS[name] ?? [];
      for (let at = 0; at <= right.length; at += 1) {
        const args: unknown[] = right.slice(0, at);
        args[at] = value;
        const message = await failure(make(), args);
        if (message === undefined || !OF_V8.test(message)) continue;
        const where = `${name}: argument ${at} is ${kind}`;
        if (!ALLOWED.some(([allowed]) => allowed.test(where)))
          unworded.push(`${where}: ${message}`);
      }
    }
  }
  expect(unworded).toEqual([]);
});

test("the test of wrong arguments detects an error of V8", async () => {
  const careless: Call = (value) => (value as { name: string }).name;
  expect(await failure(careless, [null])).toMatch(OF_V8);
});

test("every exception that the test of wrong arguments lists is an existing method", () => {
  const names = Array.from(calls().keys());
  expect(ALLOWED.filter(([allowed]) => !names.some((name) => allowed.test(name)))).toEqual([]);
  expect(Object.keys(ARGUMENTS).filter((name) => !names.includes(name))).toEqual([]);
});
