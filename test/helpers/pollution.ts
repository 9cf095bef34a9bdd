/**
 * Sets up the vitest project "polluted": while a function of the addon runs, Object.prototype has an accessor that
 * throws for every property name that native code sets or reads. This vitest project runs the tests of
 * test/unit/native.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { native } from "../../lib/native.ts";

const NATIVE = join(import.meta.dirname, "..", "..", "native");

/** Matches the C++ calls that define, read or export a property under a literal name. */
const NAMED = /\b(?:DefineOwn|GetOwn|Bind|Export<[^>]*>|InstanceMethod<[^>]*>)\([^";]*"(\w+)"/g;

/** Returns the names of the properties that native code sets or reads, from the C++ sources. */
export function propertyNames(): readonly string[] {
  const sources = readdirSync(NATIVE).filter((file) => /\.(cc|h)$/.test(file));
  const text = sources.map((file) => readFileSync(join(NATIVE, file), "utf8")).join("\n");
  return [...new Set([...text.matchAll(NAMED)].map(([, name = ""]) => name))];
}

type Callable = (this: unknown, ...args: readonly unknown[]) => unknown;

const names = propertyNames();
const refuse = (): never => {
  throw new Error("a property of Object.prototype was used");
};
let depth = 0;

/** Calls `inner` while Object.prototype is polluted. */
export function polluted<T>(inner: () => T): T {
  depth += 1;
  try {
    for (const name of depth === 1 ? names : []) {
      Reflect.defineProperty(Object.prototype, name, {
        get: refuse,
        set: refuse,
        configurable: true,
      });
    }
    return inner();
  } finally {
    depth -= 1;
    for (const name of depth === 0 ? names : []) Reflect.deleteProperty(Object.prototype, name);
  }
}

const wrapped = new WeakSet<object>();

/** Replaces each function of one of the addon's objects by a wrapper that calls the function under {@link polluted}. */
function wrapFunctions(owner: object): void {
  if (wrapped.has(owner)) return;
  wrapped.add(owner);
  for (const name of Object.getOwnPropertyNames(owner)) {
    const found: unknown = Reflect.get(owner, name);
    if (typeof found !== "function" || name === "constructor") continue;
    const function_ = found as Callable;
    const wrapper: Callable = function (...args) {
      return wrapAnswer(polluted(() => Reflect.apply(function_, this, args)));
    };
    Reflect.defineProperty(owner, name, { value: wrapper, configurable: true, writable: true });
  }
}

/**
 * Most of the addon's objects inherit their functions from a prototype; a vCPU's run has functions as own properties.
 */
function wrapAnswer(answer: unknown): unknown {
  if (typeof answer !== "object" || answer === null || ArrayBuffer.isView(answer)) return answer;
  const prototype: unknown = Object.getPrototypeOf(answer);
  if (prototype === Object.prototype) wrapFunctions(answer);
  else if (typeof prototype === "object" && prototype !== null) wrapClass(prototype);
  return answer;
}

function wrapClass(prototype: object): void {
  if (prototype !== ArrayBuffer.prototype) wrapFunctions(prototype);
}

wrapFunctions(native());
