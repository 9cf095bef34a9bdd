/** A decoder of x86 code with the CPUID features of each instruction, through iced-x86. */
import { iced } from "./iced.ts";

/** One decoded instruction. */
export interface InstructionFeatures {
  /** The address. */
  readonly ip: bigint;
  /** The mnemonic in lower case; undefined if the bytes are not an instruction. */
  readonly mnemonic: string | undefined;
  /** The names, in iced-x86, of all CPUID features that the instruction requires. */
  readonly features: readonly string[];
}

/** A decoder of x86 code, which {@link instructionDecoder} creates. */
export interface InstructionDecoder {
  /** Decodes code from its first byte to its last, in order. */
  decode(
    code: Uint8Array,
    options: { readonly bitness: 16 | 32 | 64; readonly ip: bigint },
  ): Iterable<InstructionFeatures>;
}

/**
 * The number of bytes that are copied into the WebAssembly module at a time; no instruction is longer than 15 bytes.
 */
const CHUNK = 0x1_0000;
const LONGEST = 15;

/** Returns the names of an iced-x86 enumeration by their numbers. */
function namesOf(values: object): ReadonlyMap<number, string> {
  const named = Object.entries(values).filter(([, value]) => typeof value === "number");
  return new Map(named.map(([name, value]) => [Number(value), name]));
}

function* decode(
  code: Uint8Array,
  { bitness, ip }: { readonly bitness: 16 | 32 | 64; readonly ip: bigint },
): Generator<InstructionFeatures> {
  const x86 = iced();
  const [features, mnemonics] = [namesOf(x86.CpuidFeature), namesOf(x86.Mnemonic)];
  // Caches the features of each instruction form, because asking the WebAssembly module for the features takes longer
  // than decoding.
  const known = new Map<number, Omit<InstructionFeatures, "ip">>();
  const instruction = new x86.Instruction();
  try {
    for (let start = 0; start < code.length; ) {
      const chunk = code.subarray(start, start + CHUNK);
      const isLast = start + chunk.length === code.length;
      const end = isLast ? chunk.length : chunk.length - LONGEST;
      const decoder = new x86.Decoder(bitness, chunk, x86.DecoderOptions.None);
      try {
        decoder.ip = BigInt.asUintN(64, ip + BigInt(start));
        while (decoder.position < end) {
          decoder.decodeOut(instruction);
          let form = known.get(instruction.code);
          if (form === undefined) {
            const mnemonic = mnemonics.get(instruction.mnemonic)?.toLowerCase();
            const needed = Array.from(instruction.cpuidFeatures(), (id) => features.get(id) ?? "?");
            form = instruction.isInvalid
              ? { mnemonic: undefined, features: [] }
              : { mnemonic, features: needed };
            known.set(instruction.code, form);
          }
          yield { ip: instruction.ip, ...form };
          if (form.mnemonic !== undefined) continue;
          // After invalid bytes, decoding continues at the second invalid byte, because any byte may start an
          // instruction.
          decoder.position -= instruction.length - 1;
          decoder.ip = instruction.ip + 1n;
        }
        start += decoder.position;
      } finally {
        decoder.free();
      }
    }
  } finally {
    instruction.free();
  }
}

/**
 * Returns a decoder of x86 code, for `needs()` of `node-kvm/cpuid`. iced-x86 is loaded at its first use.
 *
 * @throws Error at the first use outside of Node.js.
 */
export function instructionDecoder(): InstructionDecoder {
  return { decode };
}
