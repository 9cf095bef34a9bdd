// `npm run bench`: measures every question with this host's KVM, or with a lab kernel's if the host has none.
// Each other JavaScript file of this folder is a question.
import { fork } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runInLab } from "./harness/lab.js";
import { page } from "./harness/page.js";
import { text } from "./harness/table.js";
import { compile } from "./harness/yardstick.js";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));
const names = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".js") && name !== "main.js")
  .map((name) => name.slice(0, -".js".length));
const USAGE = `usage: npm run bench -- [--rounds 60] [--json FILE] [--page FILE] [--lab] [--kernel 6.12] [--cpu max] [QUESTION...]
questions: ${names.join(", ")}
`;

const { values, positionals } = parsed({
  allowPositionals: true,
  options: {
    help: { type: "boolean", default: false },
    rounds: { type: "string", default: "60" },
    json: { type: "string" },
    page: { type: "string" },
    lab: { type: "boolean", default: false },
    kernel: { type: "string", default: "6.12" },
    cpu: { type: "string", default: "max" },
    // Only a run in the lab's guest gets the options `--yardstick` and `--emulated`.
    yardstick: { type: "string" },
    emulated: { type: "boolean", default: false },
  },
});

if (values.help) {
  process.stdout.write(USAGE);
  process.exit();
}
const unknown = positionals.filter((name) => !names.includes(name));
if (unknown.length > 0) refuse(`no question ${unknown.join(", ")}`);
if (!/^[1-9]\d*$/.test(values.rounds)) refuse(`--rounds ${values.rounds}: not a number of rounds`);
const chosen =
  positionals.length === 0 ? names : names.filter((name) => positionals.includes(name));

function parsed(config) {
  try {
    return parseArgs(config);
  } catch (error) {
    return refuse(error.message);
  }
}

/** Prints the error and the usage, and exits. @param {string} why */
function refuse(why) {
  process.stderr.write(`bench: ${why}\n${USAGE}`);
  process.exit(2);
}

/** The CPUs that this process may use, in the kernel's notation: `0-1,4`. */
const allowed = readFileSync("/proc/self/status", "utf8").match(/Cpus_allowed_list:\s*(\S+)/)?.[1];
/** The last of these CPUs is used, because the first CPU handles most interrupts. */
const LAST = allowed?.split(/[-,]/).at(-1);

/** Measures one question in a separate process; the process runs on one CPU, except if the question requires more. */
async function ask(name, yardstick) {
  const file = join(FOLDER, `${name}.js`);
  const answer = join(FOLDER, "harness/answer.js");
  const { question } = await import(file);
  const isPinned = allowed !== LAST && question.pinned !== false;
  const pinned = isPinned ? { execPath: "taskset", execArgv: ["-c", LAST, process.execPath] } : {};
  const args = [file, yardstick, values.rounds, ...(values.emulated ? ["emulated"] : [])];
  const child = fork(answer, args, { ...pinned });
  return new Promise((resolve, reject) => {
    child.once("message", resolve);
    child.once("error", reject);
    child.once("exit", (code, signal) => reject(new Error(`${name} ended with ${signal ?? code}`)));
  });
}

/** Measures all questions on this kernel, one after the other; prints each result at once. */
async function run(yardstick) {
  const answers = [];
  for (const name of chosen) {
    const answer = await ask(name, yardstick);
    if (answers.length === 0) process.stdout.write(heading(answer));
    process.stdout.write(`${text(answer)}\n`);
    answers.push(answer);
  }
  const { emulated } = values;
  const host = { release: release(), vendor: answers[0]?.vendor, node: process.version, emulated };
  const document = { host, rounds: Number(values.rounds), questions: answers };
  if (values.json !== undefined) {
    writeFileSync(values.json, `${JSON.stringify(document, undefined, 2)}\n`);
  }
  if (values.page !== undefined) writeFileSync(values.page, page(document));
}

function heading({ vendor }) {
  const [{ model }] = cpus();
  const where = `Linux ${release()}, ${vendor}, Node ${process.version}, ${model}`;
  const how = `${values.rounds} interleaved rounds; times are per operation; ratios and differences compare medians, with the first row by default`;
  return `${where}\n${how}\n\n`;
}

const folder = mkdtempSync(join(tmpdir(), "bench-"));
try {
  const yardstick = values.yardstick ?? join(folder, "yardstick");
  if (values.yardstick === undefined) compile(yardstick);
  const device = process.env["NODE_KVM_DEVICE"] ?? "/dev/kvm";
  if (existsSync(device) && !values.lab) {
    await run(yardstick);
  } else {
    const why = values.lab ? "As asked" : `There is no ${device} here`;
    const { kernel, cpu, rounds, json = join(folder, "bench.json") } = values;
    process.stdout.write(
      `${why}: measured in the lab, Linux ${kernel} on QEMU's emulated CPU. Ratios mean something, nanoseconds do not.\n`,
    );
    const args = ["--rounds", rounds, ...chosen];
    process.exitCode = runInLab({ kernel, cpu, folder, yardstick, json, args });
    if (values.page !== undefined && existsSync(json)) {
      writeFileSync(values.page, page(JSON.parse(readFileSync(json, "utf8"))));
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
