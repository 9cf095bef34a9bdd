/** Byte arrays of callers: Buffers, arrays of another realm. struct.ts reads structs from them. */

/** Returns the class of a typed array of any realm, whatever its prototype; `undefined` for any other value. */
const classOf = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
)?.get;

/**
 * Whether a value is a Uint8Array of any realm. `instanceof` returns false for one of another context
 * (`vm.runInNewContext`, a test runner's sandbox).
 */
export function isBytes(value: unknown): value is Uint8Array {
  return classOf?.call(value) === "Uint8Array";
}

/**
 * Returns the same memory as a Uint8Array of this realm and of no subclass. `Buffer.prototype.slice` returns a view
 * where `Uint8Array.prototype.slice` returns a copy, so code that copies must not get a Buffer.
 */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  if (Object.getPrototypeOf(bytes) === Uint8Array.prototype) return bytes;
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Copies bytes; the copy shares no memory with them, whatever their class is. */
export function copyOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
