/** Disassembles machine code for the tests of the assembler. */
import { createRequire } from "node:module";
import type * as Iced from "iced-x86";

const iced = createRequire(import.meta.url)("iced-x86") as typeof Iced;

/** Disassembles code, one instruction per line, in NASM syntax. */
export function listing(bitness: 16 | 32 | 64, code: Uint8Array, rip = 0n): string {
  const decoder = new iced.Decoder(bitness, code, iced.DecoderOptions.None);
  const formatter = new iced.Formatter(iced.FormatterSyntax.Nasm);
  formatter.hexPrefix = "0x";
  formatter.hexSuffix = "";
  decoder.ip = rip;
  const lines: string[] = [];
  while (decoder.canDecode) {
    const instruction = decoder.decode();
    lines.push(formatter.format(instruction));
    instruction.free();
  }
  formatter.free();
  decoder.free();
  return lines.join("\n");
}
