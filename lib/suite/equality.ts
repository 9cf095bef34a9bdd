/** The equality of vitest's `toEqual`, for the values that claims compare; any other value is an error. */

/** The properties of an object do not describe its content: a Map, a Date. */
export class Incomparable extends TypeError {
  override readonly name: string = "Incomparable";
}

/**
 * Compares two values as `toEqual` does: recursively; a property that is `undefined` counts as absent.
 *
 * @throws {@link Incomparable} for an object that is not an array, view of bytes, error or plain object, because its
 *   properties do not describe its content, and for an asymmetric matcher.
 */
export function isEqual(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  // expect.any() and its like are compared by vitest.
  if (isAsymmetric(a) || isAsymmetric(b)) throw new Incomparable("an asymmetric matcher");
  if (!isObject(a) || !isObject(b)) return false;
  const kinds = [kindOf(a), kindOf(b)];
  if (kinds[0] !== kinds[1]) return false;
  if (kinds[0] === "Error") return a["name"] === b["name"] && a["message"] === b["message"];
  // An array's holes are not among its properties.
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

/** Names what an object is; objects of different kinds are not equal. */
function kindOf(value: Properties): string {
  const tag = Object.prototype.toString.call(value).slice("[object ".length, -1);
  const isPlain = tag === "Object" || tag === "Array" || tag === "Error";
  const isElements = ArrayBuffer.isView(value) && tag !== "DataView";
  if (isPlain || isElements) return tag;
  throw new Incomparable(`the suite's runner cannot compare a ${tag}`);
}
