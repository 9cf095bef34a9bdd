/**
 * Accepts byte arrays from callers: Buffers, and Uint8Arrays of another realm. struct.ts reads structs from such
 * arrays.
 */

/** Returns the name of a typed array's class, for any realm and any prototype; `undefined` for any other value. */
const classOf = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
)?.get;

/**
 * Whether a value is a Uint8Array of any realm. `instanceof` returns false for a Uint8Array of another context
 * (`vm.runInNewContext`, a test runner's sandbox).
 */
export function isBytes(value: unknown): value is Uint8Array {
  return classOf?.call(value) === "Uint8Array";
}

/**
 * Returns a Uint8Array of this realm, and not of a subclass, over the same memory. `Buffer.prototype.slice` returns a
 * view where `Uint8Array.prototype.slice` returns a copy, so code that copies must not get a Buffer.
 */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  if (Object.getPrototypeOf(bytes) === Uint8Array.prototype) return bytes;
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Copies bytes into new memory, for any class of the argument. */
export function copyOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
