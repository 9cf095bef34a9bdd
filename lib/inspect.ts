/**
 * Defines how util.inspect and console.log print values: handles as one line, and the kernel's numbers in hexadecimal.
 * This file imports nothing, so it loads on any system. The file of a class lists the members to print.
 */

/** The name of the method that util.inspect calls to print an object: the symbol `util.inspect.custom`. */
const INSPECT: unique symbol = Symbol.for("nodejs.util.inspect.custom");

/**
 * The options that util.inspect passes to the method. The method passes other options on to the printing of inner
 * values.
 */
interface InspectOptions {
  /** Colours a text by the name of its style: `number`, `special`. */
  readonly stylize?: (text: string, style: string) => string;
}

/**
 * The arguments that util.inspect passes to the method. `depth` is the number of levels to print; null means all
 * levels.
 */
type InspectArguments = readonly [
  depth: number | null | undefined,
  options: InspectOptions,
  inspect: (value: unknown, options: object) => string,
];

function stylize({ stylize: style }: InspectOptions, text: string, name: string): string {
  return style === undefined ? text : style(text, name);
}

const isTooDeep = (depth: number | null | undefined): boolean =>
  typeof depth === "number" && depth < 0;

/** A text that is printed as it is, without quotes. */
class Word {
  readonly #text: string;
  readonly #style: string;

  constructor(text: string, style: string) {
    this.#text = text;
    this.#style = style;
  }

  [INSPECT](_: unknown, options: InspectOptions): string {
    return stylize(options, this.#text, this.#style);
  }
}

/** Formats an integer in hexadecimal with at least this many digits: `0x1f`, `-0x1`. */
function hex(value: number | bigint, digits = 0): string {
  const text = (value < 0 ? -value : value).toString(16).padStart(digits, "0");
  return `${value < 0 ? "-" : ""}0x${text}`;
}

/** Returns the name of an object's class. */
function classOf(object: object): string {
  try {
    const { name } = object.constructor as { readonly name?: unknown };
    return typeof name === "string" && name !== "" ? name : "Object";
  } catch {
    return "Object";
  }
}

/** Adds the method that util.inspect calls to the prototype of a class. The method is not enumerable. */
function define<T extends object>(
  { prototype }: { readonly prototype: T },
  method: (object: T, given: InspectArguments) => string,
): void {
  Object.defineProperty(prototype, INSPECT, {
    value(this: T, ...given: InspectArguments) {
      return method(this, given);
    },
    configurable: true,
    writable: true,
  });
}

/**
 * Makes util.inspect format the objects of a class as `Vm { vcpus: 2, slots: 3 }`. A class calls this function in its
 * static block. Formatting never throws.
 *
 * @param members - a function that returns the members to print, without a system call. Members that are undefined or
 *   false are not printed. If the function throws, for example for a prototype, the object is printed without members.
 */
export function inspectAs<T extends object>(
  made: { readonly prototype: T },
  members: (object: T) => Readonly<Record<string, unknown>>,
): void {
  define(made, (object, [depth, options, inspect]) => {
    const name = classOf(object);
    try {
      if (isTooDeep(depth)) return stylize(options, `[${name}]`, "special");
      const shown = Object.entries(members(object)).filter(
        ([, value]) => value !== undefined && value !== false,
      );
      return `${name} ${inspect(copyOf(Object.fromEntries(shown), []), { ...options, depth })}`;
    } catch {
      return `${name} {}`;
    }
  });
}

/**
 * Makes util.inspect format the errors of a class as Node does, but with hexadecimal numbers in the members. A class
 * calls this function in its static block. Formatting never throws.
 *
 * @param omitted - the members that are not printed, because the error's message contains them.
 */
export function inspectErrorAs<T extends Error>(
  made: { readonly prototype: T },
  omitted: readonly string[],
): void {
  define(made, (error, [depth, options, inspect]) => {
    try {
      const members = Object.entries(Object.getOwnPropertyDescriptors(error))
        .filter(([name, { value }]) => !omitted.includes(name) && !isEmpty(value))
        .map(([name, descriptor]) => [name, printedDescriptor(name, descriptor)] as const);
      const shown = Object.create(
        Object.getPrototypeOf(error) as object,
        Object.fromEntries(members),
      ) as object;
      // If this property were missing, inspect() would call the method of the error's class again.
      Object.defineProperty(shown, INSPECT, { value: undefined });
      return inspect(shown, { ...options, depth });
    } catch {
      return stackOf(error);
    }
  });
}

/** Returns the stack of an error, or the name of its class if the stack cannot be read. */
function stackOf(error: Error): string {
  try {
    return String(error.stack);
  } catch {
    return classOf(error);
  }
}

/** Whether a value is an array or an object without members. */
const isEmpty = (value: unknown): boolean =>
  typeof value === "object" && value !== null && isPlain(value) && Object.keys(value).length === 0;

function printedDescriptor(name: string, descriptor: PropertyDescriptor): PropertyDescriptor {
  if (descriptor.enumerable !== true || !Object.hasOwn(descriptor, "value")) return descriptor;
  return { ...descriptor, value: printedForm(name, descriptor.value, []) };
}

/**
 * The members whose numbers are printed in decimal, because they are counts or ids. Other numbers from 10 are printed
 * in hexadecimal, and so is each bigint.
 */
const DECIMAL: ReadonlySet<string> = new Set(
  ["cap", "capability", "capacity", "component", "count", "cpu", "errno", "exception", "group"]
    .concat(["gsi", "id", "irq", "len", "length", "n", "nent", "nmsrs", "numPages", "pending"])
    .concat(["reason", "size", "slot", "slots", "vcpus"]),
);

/** Whether a value is a Uint8Array of any realm. abi/bytes.ts has the same function, but this file imports nothing. */
function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && Reflect.get(value, Symbol.toStringTag) === "Uint8Array";
}

function isPlain(value: object): boolean {
  if (Array.isArray(value) || isBytes(value)) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  // The prototype of a plain object is null or the Object.prototype of any realm.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Returns the object that util.inspect prints in place of a value. */
function printedForm(name: string, value: unknown, above: readonly object[]): unknown {
  switch (typeof value) {
    case "bigint":
      return new Word(hex(value), "bigint");
    case "number":
      return !Number.isInteger(value) || Math.abs(value) < 10 || DECIMAL.has(name)
        ? value
        : new Word(hex(value), "number");
    case "object":
      if (value === null || typeof Reflect.get(value, INSPECT) === "function") return value;
      return isPlain(value) ? new Plain(value, name, above) : value;
    default:
      return value;
  }
}

/** Lists the enumerable members of an object, except padding that is 0. Getters are not called. */
function membersOf(value: object): readonly (readonly [PropertyKey, unknown])[] {
  const members: (readonly [PropertyKey, unknown])[] = [];
  for (const key of Reflect.ownKeys(value)) {
    const descriptor = Object.getOwnPropertyDescriptor(value, key);
    if (descriptor?.enumerable !== true) continue;
    const isData = Object.hasOwn(descriptor, "value");
    const member: unknown = isData ? descriptor.value : new Word("[Getter]", "special");
    if (!isZeroPadding(key, member)) members.push([key, member]);
  }
  return members;
}

/** Copies an object or an array, with each member in its printed form. */
function copyOf(value: object, above: readonly object[], name = ""): object {
  const inner = [...above, value];
  if (Array.isArray(value)) return value.map((element) => printedForm(name, element, inner));
  const members = membersOf(value).map(
    ([key, member]) => [key, printedForm(String(key), member, inner)] as const,
  );
  return Object.fromEntries(members) as object;
}

/**
 * A plain object in its printed form. The members are converted when the object is printed, so that `depth` ends the
 * recursion.
 */
class Plain {
  readonly #value: object;
  readonly #name: string;
  readonly #above: readonly object[];

  constructor(value: object, name: string, above: readonly object[]) {
    this.#value = value;
    this.#name = name;
    this.#above = above;
  }

  [INSPECT](...given: InspectArguments): string {
    const [depth, options, inspect] = given;
    const value = this.#value;
    try {
      if (this.#above.includes(value)) return stylize(options, "[Circular]", "special");
      const short = shortOf(value, options);
      if (short !== undefined) return short;
      const kind = Array.isArray(value) ? "[Array]" : "[Object]";
      if (isTooDeep(depth)) return stylize(options, kind, "special");
      return inspect(copyOf(value, this.#above, this.#name), { ...options, depth });
    } catch {
      return stylize(options, "[Object]", "special");
    }
  }
}

/**
 * Formats an object that is printed in one line: bytes, a CPUID entry, a segment. Returns undefined for other objects.
 */
function shortOf(value: object, options: InspectOptions): string | undefined {
  if (isBytes(value)) return bytesOf(value);
  const numbers = new Map<string, number | bigint>();
  for (const [name, number] of membersOf(value)) {
    if (typeof number !== "number" && typeof number !== "bigint") return undefined;
    numbers.set(String(name), number);
  }
  const form = SHORT_FORMS.find(
    ({ required, optional }) =>
      required.every((name) => numbers.has(name)) &&
      [...numbers.keys()].every((name) => required.includes(name) || optional.includes(name)),
  );
  const numberOf = (name: string): number | bigint => numbers.get(name) ?? 0;
  return form?.format(numberOf, (name, digits) =>
    stylize(options, `${name}=${hex(numberOf(name), digits)}`, "number"),
  );
}

/** The maximum number of bytes of a view that are printed. */
const MOST_BYTES = 16;

function bytesOf(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, MOST_BYTES), (byte) =>
    byte.toString(16).padStart(2, "0"),
  );
  const rest = bytes.length - shown.length;
  return `<${shown.join(" ")}${rest > 0 ? ` ... ${rest} more` : ""}>`;
}

/** The format of objects that have certain members, all of which are integers. */
interface ShortForm {
  /** The members that an object of this format must have. */
  readonly required: readonly string[];
  /** The optional members of the object; an omitted member is 0. */
  readonly optional: readonly string[];
  readonly format: (
    numberOf: (name: string) => number | bigint,
    shown: (name: string, digits?: number) => string,
  ) => string;
}

const REGISTERS = ["eax", "ebx", "ecx", "edx"];

/** The bits of a segment whose names are printed if the bits are set. */
const SEGMENT_BITS = ["s", "present", "db", "l", "g", "avl", "unusable"];

const SHORT_FORMS: readonly ShortForm[] = [
  {
    required: ["function"],
    optional: ["index", "flags", ...REGISTERS],
    format: (numberOf, shown) => {
      const words = REGISTERS.map((name) => shown(name, 8));
      const flags = numberOf("flags");
      const leaf = `${hex(numberOf("function"))}.${numberOf("index")}:`;
      return [leaf, ...words, ...(flags === 0 ? [] : [`flags=${flags}`])].join(" ");
    },
  },
  {
    required: ["selector", "base", "limit", "type", "dpl", ...SEGMENT_BITS],
    optional: [],
    format: (numberOf, shown) => {
      const fields = ["selector", "base", "limit", "type"].map((name) => shown(name));
      const bits = SEGMENT_BITS.filter((name) => Number(numberOf(name)) !== 0);
      return [...fields, `dpl=${numberOf("dpl")}`, ...bits].join(" ");
    },
  },
];

/** Whether a member is padding or reserved, and is 0. */
function isZeroPadding(name: PropertyKey, value: unknown): boolean {
  if (!/^(pad|reserved)/.test(String(name))) return false;
  return (Array.isArray(value) ? value : [value]).every((word) => Number(word) === 0);
}

/**
 * Returns an object that util.inspect and console.log print as the value, with hexadecimal numbers: addresses,
 * registers, MSRs, exits. A CPUID entry or a segment is printed as one line, and bytes as pairs of hexadecimal digits.
 * Numbers below 10 and members that count something (`count`, `len`, `errno`) are decimal. `depth`, `colors` and the
 * other options of util.inspect apply. Padding and reserved members that are 0 are not printed.
 *
 * A vCPU returns plain objects (registers, CPUID entries, exits), which can be compared with literals and cloned. A
 * plain object has no method that formats it, so use this function: `console.log(inspectable(vcpu.getRegs()))`. Objects
 * of this package's classes do not need this function.
 *
 * @param value - any value; the members of the value are read when the result is printed.
 */
export function inspectable(value: unknown): object {
  return { [INSPECT]: (...given: InspectArguments) => inspectedValue(value, given) };
}

function inspectedValue(value: unknown, [depth, options, inspect]: InspectArguments): string {
  try {
    return inspect(printedForm("", value, []), { ...options, depth });
  } catch {
    return "[Object]";
  }
}
