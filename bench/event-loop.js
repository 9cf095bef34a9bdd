// Measures the delay of the event loop while four guests spin on other threads: timers, a file and a child process.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { time } from "./harness/table.js";

const [VCPUS, TURNS] = [4, 100];
/** The histogram takes a sample each millisecond; without a sample, the histogram has no maximum. */
const RESOLUTION = { resolution: 1 };

/** Does the work of a usual program, and returns the delay of its event loop. */
async function delays() {
  const histogram = monitorEventLoopDelay(RESOLUTION);
  histogram.enable();
  for (let i = 0; i < TURNS; i++) {
    await Promise.all([setTimeout(5), readFile("/proc/self/status")]);
    if (i % 20 === 0) await promisify(execFile)("true");
  }
  histogram.disable();
  return histogram;
}

/** Returns the figures of a histogram. */
const figures = {
  "delay, median": (histogram) => time(histogram.percentile(50)),
  "delay, 99 %": (histogram) => time(histogram.percentile(99)),
  "delay, most": (histogram) => time(histogram.max),
};

export const question = {
  name: "event-loop",
  asks: `How late is the event loop while ${VCPUS} guests spin on other threads?`,
  note: "The delay is sampled each millisecond, and includes that millisecond. It has no limit.",
  guest: "spin",
  pinned: false,
  async values(stage) {
    const quiet = await delays();
    const vcpus = Array.from({ length: VCPUS }, () => stage.sandbox().vcpu);
    const runs = vcpus.map((vcpu) => vcpu.run());
    const busy = await delays();
    for (const vcpu of vcpus) vcpu.kick();
    await Promise.all(runs);
    return Object.entries(figures).map(([what, figure]) => ({
      what,
      quiet: figure(quiet),
      spinning: figure(busy),
    }));
  },
};
