#!/usr/bin/env node
/**
 * Replaces QEMU in tests of saved and restored machines: its ports are descriptors 3 to 6, its monitor is descriptor 7,
 * and the state is descriptor 8. Faults and the log of calls are in files next to the program, because an emulator does
 * not inherit its caller's environment.
 */
import { appendFileSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { connect, Socket } from "node:net";
import { dirname, join } from "node:path";

const args = process.argv.slice(2);
const folder = dirname(process.argv[1] ?? "");
const fault = readFileSync(join(folder, "fault"), "utf8");
/** @param {string} call */
const note = (call) => appendFileSync(join(folder, "calls"), `${call}\n`);

if (args[0] === "--version") {
  process.stdout.write("QEMU emulator version 7.2\n");
  process.exit(0);
}

/** Returns the value of the first argument whose key matches. @param {RegExp} key */
const find = (key) => args.map((word) => key.exec(word)?.[1]).find((word) => word !== undefined);
const ram = find(/mem-path=([^,]*)/);
const isRestored = args.includes("-incoming");
note(isRestored ? "restores" : ram === undefined ? "boots" : "boots to be saved");

let isRunning = false;

/** @param {number} port @param {string} text */
const say = (port, text) => writeSync(3 + port, text);

/** @param {string} work */
function finish(work) {
  say(0, "[ 9.9] restored\n");
  const text = fault === "owners" ? `${process.getuid?.()} ${statSync(".").uid}` : work;
  say(1, text);
  say(3, `status 0 ${text.length} 0\nend\n`);
}

if (!isRestored) {
  if (fault === "refuses") process.exit(1);
  say(0, "[ 0.1] Linux version 6.12\n");
  say(3, "up\n");
  if (ram === undefined) {
    say(1, "booted");
    say(3, "status 0 6 0\nend\n");
  } else if (fault === "crashes") {
    process.exit(0);
  } else {
    if (fault === "speaks") say(2, "warning\n");
    say(3, "ready\n");
  }
}

if (ram !== undefined) serveMonitor(new Socket({ fd: 7 }));
if (ram === undefined) setInterval(() => undefined, 1000);

/** @param {Socket} monitor */
function serveMonitor(monitor) {
  /** @param {object} message */
  const answer = (message) => monitor.write(`${JSON.stringify(message)}\n`);
  answer({ QMP: {} });
  monitor.on("data", (bytes) => {
    for (const line of bytes.toString().trim().split("\n")) {
      const { execute, arguments: given } = JSON.parse(line);
      if (fault === `refuses ${execute}`) answer({ error: { class: "X", desc: "it is refused" } });
      else perform(execute, given, answer);
    }
  });
}

/** @param {string} command @param {any} given @param {(message: object) => void} answer */
function perform(command, given, answer) {
  answer({ event: "SOMETHING" });
  if (command === "query-migrate") {
    answer({ return: { status: fault === "fails" ? "failed" : "completed" } });
    return;
  }
  if (command === "query-status") {
    answer({ return: { status: isRunning ? "running" : "inmigrate" } });
    return;
  }
  answer({ return: {} });
  if (command === "migrate") {
    writeFileSync(ram ?? "", fault === "grows" ? "memory".repeat(2 ** 20) : "memory", {
      flag: "r+",
    });
    connect(given.uri.replace("unix:", "")).end(
      fault === "floods" ? Buffer.alloc(2 ** 26 + 1) : "devices",
    );
  }
  if (command === "migrate-incoming") {
    if (fault === "exits") process.exit(1);
    if (given.uri !== "fd:8" || readFileSync(8, "utf8") !== "devices") process.exit(3);
    if (!args.join(" ").includes("share=off")) process.exit(4);
    const memory = readFileSync(ram ?? "", "latin1");
    if (memory.length !== Number(find(/,size=(\d+)M/)) * 2 ** 20 || !memory.startsWith("memory"))
      process.exit(5);
    // The file is opened for writing, as in QEMU.
    writeFileSync(ram ?? "", "broken", { flag: "r+" });
    receive();
  }
}

/** As in QEMU, bytes that a port receives before the state is loaded are lost. */
function receive() {
  say(3, "beat\n");
  if (fault === "hangs") return;
  let text = "";
  setTimeout(() => {
    isRunning = true;
  }, 100);
  new Socket({ fd: 6 }).on("data", (bytes) => {
    if (!isRunning) return;
    text += bytes.toString("latin1");
    const [length = ""] = text.split("\n", 1);
    const work = text.slice(length.length + 1);
    if (text.includes("\n") && work.length === Number(length)) finish(work);
  });
}
