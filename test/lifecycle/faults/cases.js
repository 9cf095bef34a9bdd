/**
 * Runs one program of programs.js repeatedly, each time with another failing call. The result of each run is printed as
 * a line of JSON: `node --expose-gc cases.js '{"library":…,"program":…,"cases":[…]}'`. run.js selects the cases, and
 * kills a process that hangs.
 */
import { readdirSync, readlinkSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { errnoName } from "node-kvm";
import { FAILING, FORMS } from "./calls.js";
import { DEVICE_PROGRAMS, HOST_PROGRAMS } from "./programs.js";

/**
 * `cases` is a list of `{ call, error, nth, isAlways }`; without it, the program counts the calls of a first and a
 * second run.
 */
const { library, addon, program: name, cases, isCold } = JSON.parse(process.argv[2]);
process.env["NODE_KVM_ADDON"] = addon;
const injector = createRequire(import.meta.url)(library);
const wanted = [...Object.keys(FAILING), "syscall"];
const names = injector.install(addon, `\n${wanted.join("\n")}\n`);
const program = { ...HOST_PROGRAMS, ...DEVICE_PROGRAMS }[name];

/** The write is synchronous, so that the line is printed before the process crashes or hangs. */
const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`);
const counted = (list) => Object.fromEntries(names.map((call, i) => [call, list[i]]));

/** Errors of promises and callbacks that no code catches. */
let stray = [];
process.on("unhandledRejection", (error) => stray.push(error));
process.on("uncaughtException", (error) => stray.push(error));

/** Runs the program, then closes the handles that the program owns. The function returns every error. */
async function live() {
  const owned = [];
  const own = (handle) => {
    owned.push(handle);
    return handle;
  };
  const errors = [];
  stray = errors;
  try {
    await program(own);
  } catch (error) {
    errors.push(error);
  }
  for (const handle of owned.reverse()) {
    try {
      handle.close();
    } catch (error) {
      errors.push(error);
    }
  }
  await turn();
  await turn();
  // V8 keeps references to the stack of an error until the stack is read.
  for (const error of errors) String(error?.stack);
  return errors;
}

const MAPS = { uv_poll_init: "epoll_ctl", uv_poll_start: "epoll_ctl" };
/** Returns the name under which an error may state the failed call. */
const titleOf = (call) => MAPS[call] ?? call.replace(/64$/, "").replace("raw ", "");

/** Lists an error, its causes and the errors of an AggregateError. */
function* chainOf(error, depth = 0) {
  if (depth > 8 || typeof error !== "object" || error === null) return;
  yield error;
  yield* chainOf(error.cause, depth + 1);
  for (const part of error.errors ?? []) yield* chainOf(part, depth + 1);
}

/** Returns whether an error names the failed call and its errno. A failure of Node-API has a message but no errno. */
function isNamed(error, { call, error: number }) {
  if (call.startsWith("napi_")) return error instanceof Error && error.message !== "";
  const title = titleOf(call);
  return [...chainOf(error)].some((one) => {
    const said = String(one.message);
    // Kvm.open() calls KVM_GET_API_VERSION, and reports a failure of this call as a failure of open.
    const isCall = title === "ioctl" ? /\bKVM_[A-Z]|^open \(/.test(said) : said.includes(title);
    return isCall && (said.includes(errnoName(number)) || said.includes(`errno ${number}`));
  });
}

const text = (error) =>
  error instanceof Error ? `${error.name}: ${error.message}`.split("\n")[0] : String(error);

function judge(errors, one) {
  if (errors.length === 0) return { outcome: "success" };
  // The first error is the cause; later errors follow from it.
  const named = errors.find((error) => isNamed(error, one));
  if (named !== undefined) return { outcome: "error", detail: text(named) };
  return { outcome: "misleading", detail: errors.map(text).join(" | ") };
}

/**
 * Lists the open descriptors of the process. The addon keeps one epoll descriptor open, which belongs to no program.
 */
const descriptors = () =>
  readdirSync("/proc/self/fd")
    .flatMap((fd) => {
      try {
        const link = readlinkSync(`/proc/self/fd/${fd}`);
        return link.startsWith("pipe:") || link.startsWith("socket:") ? [] : [link];
      } catch {
        return []; // the descriptor of the directory listing is closed by now
      }
    })
    .filter((link) => !isCold || link !== "anon_inode:[eventpoll]")
    .sort();

/**
 * Returns the descriptors that are open in addition to `before`, after the garbage collector had a chance to close
 * them.
 */
async function leaked(before) {
  for (let i = 0; i < 6; i += 1) {
    const now = descriptors();
    for (const link of before) {
      const at = now.indexOf(link);
      if (at !== -1) now.splice(at, 1);
    }
    if (now.length === 0) return undefined;
    globalThis.gc();
    await turn();
    if (i === 5) return now.join(" ");
  }
  return undefined;
}

const busy = async (milliseconds) => {
  const before = process.cpuUsage();
  await sleep(milliseconds);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / milliseconds;
};

/**
 * Returns whether a thread uses the CPU although no code should run; the collector's threads do so only for a moment.
 */
async function isSpinning() {
  for (const milliseconds of [10, 50, 200, 400, 400, 400]) {
    if ((await busy(milliseconds)) < 0.7) return false;
  }
  return true;
}

const disarm = () => injector.arm(-1, 0, 0, 0, 0);

async function tryCase(one, number, before) {
  const index = names.indexOf(one.call);
  say({ begin: number });
  const began = performance.now();
  injector.arm(index, one.nth, one.isAlways ? 1 : 0, one.error, FORMS[FAILING[one.call].form]);
  const errors = await live();
  const milliseconds = performance.now() - began;
  const failed = injector.failed()[index];
  disarm();
  say({ lived: number });
  const { outcome, detail } = judge(errors, one);
  let result =
    failed === 0 && errors.length === 0 ? { outcome: "not reached" } : { outcome, detail };
  const left = await leaked(before);
  if (left !== undefined) result = { outcome: "leak", detail: left };
  if (await isSpinning()) result = { outcome: "spin", detail };
  const after = await live();
  if (after.length > 0) result = { outcome: "lasting", detail: after.map(text).join(" | ") };
  say({ end: number, ...result, milliseconds });
}

if (cases === undefined) {
  disarm();
  const first = await live();
  const cold = counted(injector.reached());
  disarm();
  const second = await live();
  const warm = counted(injector.reached());
  say({
    cold,
    warm,
    errors: [...first, ...second].map(text),
  });
} else {
  if (!isCold) await live();
  for (const [number, one] of cases) await tryCase(one, number, descriptors());
}
