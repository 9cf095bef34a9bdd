/** Implements the equality of vitest's `toEqual` for the values that claims compare; other values cause an error. */

/** Reports an object whose properties do not describe its content, such as a Map or a Date. */
export class Incomparable extends TypeError {
  override readonly name: string = "Incomparable";
}

/**
 * Compares two values recursively, as `toEqual` does; a property with the value `undefined` is equal to a missing
 * property.
 *
 * @throws {@link Incomparable} for an asymmetric matcher, and for an object that is not an array, a typed array, an
 *   error or a plain object, because the properties of such an object do not describe its content.
 */
export function isEqual(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  // vitest compares asymmetric matchers, such as expect.any().
  if (isAsymmetric(a) || isAsymmetric(b)) throw new Incomparable("an asymmetric matcher");
  if (!isObject(a) || !isObject(b)) return false;
  const kinds = [kindOf(a), kindOf(b)];
  if (kinds[0] !== kinds[1]) return false;
  if (kinds[0] === "Error") return a["name"] === b["name"] && a["message"] === b["message"];
  // Object.entries() does not list the holes of an array, so the lengths are compared.
  if (Array.isArray(a) && a["length"] !== b["length"]) return false;
  const [left, right] = [a, b].map((value) => new Map(Object.entries(value)));
  const keys = new Set([...(left?.keys() ?? []), ...(right?.keys() ?? [])]);
  return Array.from(keys).every((key) => isEqual(left?.get(key), right?.get(key)));
}

type Properties = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Properties {
  return typeof value === "object" && value !== null;
}

function isAsymmetric(value: unknown): boolean {
  return isObject(value) && value["$$typeof"] === Symbol.for("jest.asymmetricMatcher");
}

/** Returns the kind of an object, such as `Array`; objects of different kinds are not equal. */
function kindOf(value: Properties): string {
  const tag = Object.prototype.toString.call(value).slice("[object ".length, -1);
  const isPlain = tag === "Object" || tag === "Array" || tag === "Error";
  const isElements = ArrayBuffer.isView(value) && tag !== "DataView";
  if (isPlain || isElements) return tag;
  throw new Incomparable(`the suite's runner cannot compare a ${tag}`);
}
