/**
 * Compares the CPU models of lib/cpuid/models with the models of an installed QEMU, and prints each difference with the
 * model and the feature. The script reads QEMU's models with query-cpu-model-expansion of QMP. The script exits with 1
 * if a difference is not listed in this file with its reason, or if a listed difference no longer exists. `npm run
 * build` comes first.
 *
 *   node scripts/models.js [--qemu PROGRAM]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

/**
 * An intended difference.
 * @typedef {object} Intended
 * @property {"ours" | "qemu"} only The side that has the feature.
 * @property {string} feature The field's name.
 * @property {RegExp} models The names of the models and variants that have the difference, and no others.
 * @property {string} reason
 */

/** @type {readonly Intended[]} */
export const INTENDED = [
  {
    only: "ours",
    feature: "vme",
    models: /./,
    reason: "every CPU has it; QEMU's emulation (TCG), which answers here, switches it off",
  },
  {
    only: "qemu",
    feature: "guest_status",
    models: /./,
    reason: "the hypervisor bit belongs to a hypervisor's leaves, which a model does not have",
  },
  {
    only: "qemu",
    feature: "monitor",
    models:
      /^(EPYC|EPYC-IBPB|EPYC-XSAVES|EPYC-Rome|EPYC-Rome-IBRS|EPYC-Milan|Dhyana|Dhyana-XSAVES|Denverton|Snowridge.*)$/,
    reason: "KVM offers MWAIT only if the VMM switches off its exits",
  },
  {
    only: "ours",
    feature: "clflushopt",
    models: /^Skylake-Server-(IBRS|noTSX-IBRS|noTSX-IBRS-XSAVES)$/,
    reason: "every Skylake server has it; QEMU drops it from version 2 on",
  },
];

/** Properties of QEMU that are on but are not CPUID bits. */
export const NOT_CPUID = new Map([
  ...["rdctl-no", "ibrs-all", "skip-l1dfl-vmentry", "mds-no", "pschange-mc-no", "taa-no"].map(
    (name) => /** @type {const} */ ([name, "a bit of the MSR IA32_ARCH_CAPABILITIES"]),
  ),
  ["split-lock-detect", "a bit of the MSR IA32_CORE_CAPABILITIES"],
  ["i64", "QEMU's second name of lm"],
]);

/**
 * Queries QEMU for the expansion of each of its models.
 * @param {string} program
 * @param {readonly string[]} names
 * @returns {Promise<Map<string, string>>} The answer to each query as JSON text, without the models that QEMU lacks.
 */
export async function expansions(program, names) {
  const options = ["-machine", "none", "-accel", "tcg", "-display", "none", "-nodefaults"];
  const child = spawn(program, [...options, "-qmp", "stdio"], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const exited = once(child, "exit");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  /** @param {object} command */
  const ask = async (command) => {
    child.stdin.write(`${JSON.stringify(command)}\n`);
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`${program} ended before it answered`);
      if (/^\{"(return|error)"/.test(value)) return String(value);
    }
  };
  await lines.next();
  await ask({ execute: "qmp_capabilities" });
  const answers = new Map();
  for (const name of names) {
    const model = { name };
    const answer = await ask({
      execute: "query-cpu-model-expansion",
      arguments: { type: "full", model },
    });
    if (answer.startsWith('{"return"')) answers.set(name, answer);
  }
  await ask({ execute: "quit" });
  await exited;
  return answers;
}

/**
 * Compares a model with one expansion of QEMU.
 * @param {{ name: string, features: readonly string[] }} ours
 * @param {{ features: readonly string[], unknown: readonly string[] }} theirs
 * @returns {{ only: "ours" | "qemu", feature: string, reason: string | undefined }[]} The differences, and what is
 *   listed in INTENDED but is no difference, whose reason begins with "gone: ". A difference without a reason is not
 *   intended.
 */
export function differences(ours, theirs) {
  const listed = INTENDED.filter(({ models }) => models.test(ours.name));
  /** @type {(only: "ours" | "qemu", feature: string) => string | undefined} */
  const reasonOf = (only, feature) =>
    listed.find((row) => row.only === only && row.feature === feature)?.reason;
  const found = [
    ...ours.features
      .filter((name) => !theirs.features.includes(name))
      .map((feature) => ({ only: /** @type {const} */ ("ours"), feature })),
    ...[...theirs.features.filter((name) => !ours.features.includes(name)), ...theirs.unknown].map(
      (feature) => ({ only: /** @type {const} */ ("qemu"), feature }),
    ),
  ].map((row) => ({
    ...row,
    reason: reasonOf(row.only, row.feature) ?? NOT_CPUID.get(row.feature),
  }));
  const gone = listed.filter(
    (row) => !found.some(({ only, feature }) => only === row.only && feature === row.feature),
  );
  return [
    ...found,
    ...gone.map(({ only, feature }) => ({ only, feature, reason: "gone: the models are equal" })),
  ];
}

/** @param {readonly string[]} args */
async function main(args) {
  const { values } = parseArgs({ args: [...args], options: { qemu: { type: "string" } } });
  const { importQemuModel, namedModels } = await import("../dist/cpuid/index.js");
  const all = namedModels();
  const program = values.qemu ?? "qemu-system-x86_64";
  const answers = await expansions(
    program,
    all.flatMap(({ aliases }) => [...aliases.qemu]),
  );
  let bad = 0;
  let equal = 0;
  for (const model of all) {
    for (const alias of model.aliases.qemu) {
      const answer = answers.get(alias);
      if (answer === undefined) continue;
      const rows = differences(model, importQemuModel(answer));
      equal += 1;
      for (const { only, feature, reason } of rows) {
        const isBad = reason === undefined || reason.startsWith("gone: ");
        if (isBad) bad += 1;
        console.log(
          `${isBad ? "! " : "  "}${model.name} (${alias}): ${feature}: only ${only}: ${reason ?? "not intended"}`,
        );
      }
    }
  }
  console.log(`${equal} models of QEMU compared, ${bad} differences not intended`);
  process.exitCode = bad === 0 && equal > 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href)
  await main(process.argv.slice(2));
