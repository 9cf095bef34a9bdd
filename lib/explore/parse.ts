/** Reads a sequence of operations from JSON, and rejects anything else in one sentence. */
import { CPUID_REGISTERS, findField } from "../cpuid/index.ts";
import { describe, suggestion } from "../options.ts";
import type { TableEdit } from "./edits.ts";
import { type PlannedOperation, type Sequence, VCPUS } from "./operation.ts";

/** Reports text that is not a sequence of operations. */
export class SequenceError extends Error {
  override readonly name: string = "SequenceError";
}

/** Checks a value, and returns the reason why it is not allowed. */
type Check = (value: unknown) => string | undefined;

const oneOf =
  (...allowed: readonly string[]): Check =>
  (value) =>
    allowed.some((word) => word === value)
      ? undefined
      : `expected one of ${allowed.join(", ")}, got ${describe(value)}`;

const integer =
  (most = 0xffff_ffff): Check =>
  (value) =>
    typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= most
      ? undefined
      : `expected an integer from 0 to ${most}, got ${describe(value)}`;

const hexadecimal: Check = (value) =>
  typeof value === "string" && /^0x[0-9a-f]{1,16}$/.test(value)
    ? undefined
    : `expected hexadecimal text such as "0x7", got ${describe(value)}`;

const fieldName: Check = (value) =>
  typeof value === "string" && findField(value)?.name === value
    ? undefined
    : `expected the name of a CPUID field, got ${describe(value)}`;

const u32 = integer();
const register = oneOf(...CPUID_REGISTERS);
const bit = integer(31);

/** Returns an own member of a table; undefined for any other name. */
function own<Value>(table: Readonly<Record<string, Value>>, name: unknown): Value | undefined {
  return typeof name === "string" && Object.hasOwn(table, name) ? table[name] : undefined;
}

/** The arguments of each edit. */
const EDITS: { readonly [name in TableEdit[0]]: readonly Check[] } = {
  toggle: [fieldName],
  flip: [u32, register, bit],
  flipIn: [u32, u32, register, bit],
  drop: [u32, u32],
  dropAt: [u32],
  duplicate: [u32, u32, oneOf("before", "end")],
  swap: [u32, u32, u32],
  flag: [u32, u32, bit],
  index: [u32, u32, u32],
  flagIndex: [u32, u32, u32],
  padding: [u32, integer(2), u32],
  width: [integer(255)],
  physicalBits: [integer(255)],
  maxExtended: [u32],
  unhalt: [integer(1)],
  signature: [],
  moveKvm: [u32],
  add: [u32, u32, u32, u32],
  fill: [integer(1024)],
};

const edits: Check = (value) => {
  if (!Array.isArray(value)) return `expected a list of edits, got ${describe(value)}`;
  for (const edit of value as readonly unknown[]) {
    const [name, ...args] = Array.isArray(edit) ? (edit as readonly unknown[]) : [];
    const checks = own(EDITS, name);
    if (checks === undefined) {
      const hint = typeof name === "string" ? suggestion(name, Object.keys(EDITS)) : "";
      return `unknown edit ${describe(name)}${hint}`;
    }
    if (args.length !== checks.length) {
      return `the edit ${String(name)} has ${checks.length} arguments, got ${args.length}`;
    }
    const wrong = checks.map((check, i) => check(args[i])).find((reason) => reason !== undefined);
    if (wrong !== undefined) return `the edit ${String(name)}: ${wrong}`;
  }
  return undefined;
};

const vcpu = integer(VCPUS - 1);
const set = { vcpu, base: oneOf("supported", "stored", "none"), edits };

/** The members of each operation besides `call`. */
const MEMBERS: {
  readonly [call in PlannedOperation["call"]]: Readonly<Record<string, Check>>;
} = {
  setCpuid2: set,
  setCpuid: set,
  getCpuid2: { vcpu, room: oneOf("all", "short") },
  run: { vcpu, how: oneOf("io", "internalError", "tripleFault", "immediateExit") },
  guestCpuid: { vcpu, function: u32, index: u32 },
  cr4: { vcpu, by: oneOf("sregs", "sregs2", "syncRegs", "guest"), bit: oneOf("osxsave", "pke") },
  xcr0: { vcpu, value: hexadecimal },
  apicBase: { vcpu, by: oneOf("sregs", "sregs2", "syncRegs", "msrs", "guest") },
  miscEnable: { vcpu, by: oneOf("msrs", "guest") },
  xss: { vcpu, value: hexadecimal },
  disableHltExits: {},
  disableMwaitQuirk: {},
};

const VM_OPTIONS = ["hltExitsOff", "mwaitQuirkOff", "irqchip"];

type Members = Readonly<Record<string, unknown>>;

function membersOf(where: string, value: unknown, allowed: readonly string[]): Members {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SequenceError(`${where}: expected an object, got ${describe(value)}`);
  }
  const unknown = Object.keys(value).find((name) => !allowed.includes(name));
  if (unknown !== undefined) {
    throw new SequenceError(`${where}: unknown member ${unknown}${suggestion(unknown, allowed)}`);
  }
  return value as Members;
}

function parseOperation(value: unknown, position: number): PlannedOperation {
  const where = `operation ${position + 1}`;
  const { call } = Object(value) as { readonly call?: unknown };
  const members = own(MEMBERS, call);
  if (members === undefined) {
    const hint = typeof call === "string" ? suggestion(call, Object.keys(MEMBERS)) : "";
    throw new SequenceError(`${where}: unknown call ${describe(call)}${hint}`);
  }
  const given = membersOf(where, value, ["call", ...Object.keys(members)]);
  for (const [name, check] of Object.entries(members)) {
    const reason = check(given[name]);
    if (reason !== undefined) throw new SequenceError(`${where}: ${name}: ${reason}`);
  }
  return given as unknown as PlannedOperation;
}

/**
 * Parses the JSON that formatSequence() writes.
 *
 * @throws {@link SequenceError} that names the operation and the member.
 */
export function parseSequence(text: string): Sequence {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new SequenceError(`the text is not JSON: ${(error as Error).message}`);
  }
  const { vm = {}, operations } = membersOf("the sequence", value, ["vm", "operations"]);
  const options = membersOf("vm", vm, VM_OPTIONS);
  for (const name of VM_OPTIONS) {
    const option = options[name] ?? false;
    if (typeof option !== "boolean") {
      throw new SequenceError(`vm: ${name}: expected true or false, got ${describe(option)}`);
    }
  }
  if (!Array.isArray(operations) || operations.length === 0) {
    throw new SequenceError("operations: expected a list with at least one operation");
  }
  const isOn = (name: string): boolean => options[name] === true;
  return {
    vm: {
      hltExitsOff: isOn("hltExitsOff"),
      mwaitQuirkOff: isOn("mwaitQuirkOff"),
      irqchip: isOn("irqchip"),
    },
    operations: (operations as readonly unknown[]).map(parseOperation),
  };
}
