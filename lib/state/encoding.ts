/**
 * Base64, UTF-8, Latin-1 and CRC-32, implemented with functions that both Node.js and browsers have. json.ts and
 * binary.ts use these functions.
 */

/** The maximum number of arguments of one call of String.fromCharCode: a larger number may overflow the stack. */
const CHUNK = 0x8000;

/** Converts each byte to a character from U+0000 to U+00FF. */
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

/** Decodes a text that {@link base64} has returned; returns `undefined` for any other text. */
export function fromBase64(text: string): Uint8Array | undefined {
  try {
    const decoded = atob(text);
    // atob also accepts white space, missing padding and non-zero unused bits, so the bytes are encoded again.
    return btoa(decoded) === text ? fromLatin1(decoded) : undefined;
  } catch {
    return undefined; // the text has a character that is not base64
  }
}

/** Encodes text in UTF-8. */
export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Decodes UTF-8; U+FFFD replaces invalid bytes. */
export function fromUtf8(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

const POLYNOMIAL = 0xedb88320;

/** The CRC-32 remainder of each byte. The remainders are computed for the first checksum. */
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

/** Returns the CRC-32 of IEEE 802.3, which zlib also uses. */
export function crc32(bytes: Uint8Array): number {
  remainders ??= computeRemainders();
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (remainders[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}
