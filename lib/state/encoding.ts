/** Base64, UTF-8, Latin-1 and CRC-32 by what both Node.js and browsers have. The documents that use them are json.ts and binary.ts. */

/** The maximum number of arguments of one call of String.fromCharCode: a larger number may overflow the stack. */
const CHUNK = 0x8000;

/** Returns bytes as characters U+0000 to U+00FF. */
export function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) {
    text += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  }
  return text;
}

/** Returns the low byte of each character. */
export function fromLatin1(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Returns bytes in base64, with padding. */
export function base64(bytes: Uint8Array): string {
  return btoa(latin1(bytes));
}

/** Reads what {@link base64} returns; `undefined` for any other text. */
export function fromBase64(text: string): Uint8Array | undefined {
  try {
    const decoded = atob(text);
    // atob accepts white space, a missing padding and unused bits that are set.
    return btoa(decoded) === text ? fromLatin1(decoded) : undefined;
  } catch {
    return undefined; // a character that is not base64
  }
}

/** Returns text in UTF-8. */
export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Reads UTF-8; U+FFFD replaces invalid bytes. */
export function fromUtf8(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

const POLYNOMIAL = 0xedb88320;

/** The checksum's remainders by byte, which are computed at the first checksum. */
let remainders: Uint32Array | undefined;

function computeRemainders(): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    let remainder = byte;
    for (let bit = 0; bit < 8; bit += 1) {
      remainder = (remainder >>> 1) ^ (remainder % 2 === 1 ? POLYNOMIAL : 0);
      remainder >>>= 0;
    }
    return remainder;
  });
}

/** Returns the CRC-32 of IEEE 802.3, as zlib has it. */
export function crc32(bytes: Uint8Array): number {
  remainders ??= computeRemainders();
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (remainders[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}
