/**
 * Generates lib/abi/generated/constants.ts from the facts: every integer macro and enumerator of x86.
 * structs.js and ioctls.js generate the structs and the ioctls.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * @typedef {import("./extract.js").Facts} Facts
 * @typedef {{ foreign: { pattern: string }, foreignStructs: Record<string, string>,
 *   notExitReasons: Record<string, string>, wide: Record<string, string>,
 *   tailCounts: Record<string, { count: string | null }> }} Choices
 */

/** The facts about constants and structs that cannot be derived from headers. @type {Choices} */
export const choices = JSON.parse(
  readFileSync(join(import.meta.dirname, "..", "facts", "abi-choices.json"), "utf8"),
);

const isForeign = new RegExp(choices.foreign.pattern);
const isAlwaysKept = /^KVM_(CAP|EXIT)_/;

/**
 * Writes a value as TypeScript: a number, or a bigint for a value that does not fit in 32 bits.
 * @param {string} name @param {string} decimal
 */
function literal(name, decimal) {
  const value = BigInt(decimal);
  const isWide = name in choices.wide || value > 0xffff_ffffn;
  return isWide ? `0x${value.toString(16)}n` : decimal;
}

/**
 * Lists names and numbers by number; two names for one number are an error, because each list also maps numbers to
 * names.
 * @param {[string, string][]} entries
 */
function byNumber(entries) {
  const list = entries.toSorted(([, a], [, b]) => Number(a) - Number(b));
  for (const [i, [name, value]] of list.entries()) {
    const next = list[i + 1];
    if (next?.[1] === value) throw new Error(`${name} and ${next[0]} are both ${value}`);
  }
  return list;
}

/**
 * @param {string} doc @param {string} type @param {string} constant
 * @param {[string, string][]} entries
 */
function list(doc, type, constant, entries) {
  const items = byNumber(entries).map(([name, value]) => `  ${name}: ${value},\n`);
  const names = byNumber(entries).map(([name]) => `  | "${name}"`);
  return (
    `/** ${doc}: its name. */\nexport type ${type} =\n${names.join("\n")};\n\n` +
    `/** ${doc}: name to number, ordered by number. */\n` +
    `export const ${constant}: Readonly<Record<${type}, number>> = {\n${items.join("")}};\n`
  );
}

/** Returns the constants for the generated file, by name. @param {Facts} facts */
const keptConstants = (facts) =>
  Object.entries(facts.constants).filter(
    ([name]) => isAlwaysKept.test(name) || !isForeign.test(name),
  );

/**
 * Returns the text of constants.ts, without its stamp.
 * @param {Facts} facts
 * @returns {string}
 */
export function printConstants(facts) {
  return keptConstants(facts)
    .map(([name, value]) => `export const ${name} = ${literal(name, value)};\n`)
    .join("");
}

/**
 * Returns the text of names.ts, without its stamp.
 * @param {Facts} facts
 * @returns {string}
 */
export function printNames(facts) {
  const kept = keptConstants(facts);
  const capabilities = kept.filter(([name]) => name.startsWith("KVM_CAP_"));
  const exits = kept.filter(
    ([name]) => name.startsWith("KVM_EXIT_") && !(name in choices.notExitReasons),
  );
  const errors = kept.filter(([name]) => /^KVM_INTERNAL_ERROR_(?!.*_FLAG_)/.test(name));
  return [
    list(
      "A capability, asked for with KVM_CHECK_EXTENSION",
      "CapabilityName",
      "KVM_CAPABILITIES",
      capabilities,
    ),
    list("Why KVM_RUN returned (kvm_run.exit_reason)", "ExitReasonName", "KVM_EXIT_REASONS", exits),
    list("What kvm_run.internal.suberror says", "InternalErrorName", "KVM_INTERNAL_ERRORS", errors),
  ].join("\n");
}
