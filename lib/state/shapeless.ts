/**
 * Finds parts of a saved state that cannot be written completely: unknown parts, and structs with missing fields.
 * check.ts checks whether a part fits a machine.
 */
import type { Layout } from "../abi/struct.ts";
import { missingFields } from "../abi/whole.ts";
import { describe, suggestion } from "../options.ts";
import type { StateFinding } from "./error.ts";
import { type Part, VCPU_PARTS, VM_PARTS } from "./parts.ts";
import { STATE_FORMAT, STATE_VERSION, type VmState } from "./state.ts";

interface Shapeless {
  readonly part: string;
  readonly place?: string;
  readonly message: string;
}

/** The members of a state besides its parts. */
const FRAME: Readonly<Record<"vm" | "vcpu", readonly string[]>> = {
  vm: ["format", "version", "source", "vcpus"],
  vcpu: ["id"],
};

/** Finds unknown parts, and missing fields in the structs of a part. */
function shapeless(owner: object, fd: "vm" | "vcpu", parts: readonly Part[]): readonly Shapeless[] {
  const names = [...FRAME[fd], ...parts.map(({ name }) => name)];
  const unknown = Object.keys(owner).filter((name) => !names.includes(name));
  return [
    ...unknown.map((part) => ({
      part,
      message: `a saved ${fd} has no such part${suggestion(part, names, 0)}`,
    })),
    ...parts.flatMap(({ name, shape }): readonly Shapeless[] => {
      const value: unknown = Reflect.get(owner, name);
      if (value === undefined || shape.kind === "bytes" || shape.kind === "u32") return [];
      const isList = shape.kind === "list";
      if (isList && !Array.isArray(value)) return [{ part: name, message: "expected an array" }];
      const values: readonly unknown[] = isList ? (value as readonly unknown[]) : [value];
      const layout: Layout = isList ? shape.element : shape.layout;
      return values.flatMap((one, i): readonly Shapeless[] => {
        const place = isList ? `[${i}]` : "";
        if (typeof one !== "object" || one === null) {
          return [{ part: name, place, message: "expected an object" }];
        }
        const missing = missingFields(layout, one);
        if (missing.length === 0) return [];
        const more = missing.length > 8 ? `, ${missing.length - 8} more` : "";
        const message = `missing ${missing.slice(0, 8).join(", ")}${more}`;
        return [{ part: name, place, message }];
      });
    }),
  ];
}

/** Finds the parts of a state that cannot be written completely. */
export function findShapeless(
  state: Omit<VmState, "format" | "version" | "source">,
): readonly StateFinding[] {
  const finding = (object: string, owner: string, one: Shapeless): StateFinding => ({
    object,
    part: one.part,
    path: `${owner}${one.part}${one.place ?? ""}`,
    message: one.message,
    prevents: true,
  });
  return [
    ...shapeless(state, "vm", VM_PARTS).map((one) => finding("vm", "", one)),
    ...state.vcpus.flatMap((vcpu, i) =>
      shapeless(vcpu, "vcpu", VCPU_PARTS).map((one) =>
        finding(`vcpu ${vcpu.id}`, `vcpus[${i}].`, one),
      ),
    ),
  ];
}

/**
 * Rejects a state that a document cannot represent, because reading the document would return another state or fail.
 *
 * @throws TypeError that names the first faults.
 */
export function refuseUnwritable(where: string, state: VmState): void {
  const given: unknown = state;
  if (typeof given !== "object" || given === null) {
    throw new TypeError(`${where}: expected a saved state, got ${describe(given)}`);
  }
  const { format, version, source, vcpus } = state as Partial<VmState>;
  const ids = Array.isArray(vcpus) ? vcpus.map((vcpu: unknown) => idOf(vcpu)) : [];
  const frame: readonly (readonly [isRight: boolean, words: string])[] = [
    [format === STATE_FORMAT, `format: expected "${STATE_FORMAT}"`],
    [version === STATE_VERSION, `version: expected ${STATE_VERSION}`],
    [typeof source?.kernel === "string", "source.kernel: expected a string"],
    [Array.isArray(vcpus) && ids.every(isU32), "vcpus: expected vCPUs, each with an id"],
    [new Set(ids).size === ids.length, "vcpus: two have the same id"],
  ];
  const wrong = frame.filter(([isRight]) => !isRight).map(([, words]) => words);
  if (wrong.length === 0) {
    wrong.push(...findShapeless(state).map(({ path, message }) => `${path}: ${message}`));
  }
  if (wrong.length === 0) return;
  const rest = wrong.length > MOST ? `; and ${wrong.length - MOST} more` : "";
  throw new TypeError(`${where}: ${wrong.slice(0, MOST).join("; ")}${rest}`);
}

/**
 * Rejects a value if it is not an object, if it has no list of vCPUs, or if it has a version other than
 * {@link STATE_VERSION}.
 *
 * @throws TypeError that describes the fault.
 */
export function refuseNoState(where: string, state: unknown): void {
  const isObject = typeof state === "object" && state !== null;
  const version: unknown = isObject ? Reflect.get(state, "version") : undefined;
  if (!isObject || !Array.isArray(Reflect.get(state, "vcpus"))) {
    throw new TypeError(`${where}: expected a saved state, got ${describe(state)}`);
  }
  if (version === undefined || version === STATE_VERSION) return;
  throw new TypeError(`${where}: version: expected ${STATE_VERSION}, got ${describe(version)}`);
}

/** The maximum number of faults that an error names. */
const MOST = 8;

const isU32 = (id: unknown): boolean => typeof id === "number" && id >>> 0 === id;
const idOf = (vcpu: unknown): unknown =>
  typeof vcpu === "object" && vcpu !== null ? Reflect.get(vcpu, "id") : undefined;
