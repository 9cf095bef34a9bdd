// Measures the memory, descriptors and time of a thousand VMs that exist at the same time.
import { readdirSync, readFileSync } from "node:fs";
import { Sandbox } from "node-kvm/machine";
import { time } from "./harness/table.js";

const VMS = 1000;

/** Returns a field of a file of /proc, in kB. @param {string} file @param {string} name */
const kilobytes = (file, name) =>
  Number(readFileSync(file, "utf8").match(new RegExp(`^${name}:\\s+(\\d+)`, "m"))?.[1]);

/** @param {number | "self"} pid */
const look = (pid) => ({
  process: kilobytes(`/proc/${pid}/status`, "VmRSS"),
  host: kilobytes("/proc/meminfo", "MemAvailable"),
  fds: readdirSync(`/proc/${pid}/fd`).length,
});

/** Creates and closes VMs; measures before the creation, between creation and close, and after the close. */
async function lives(pid, make, end) {
  const before = look(pid);
  const made = await make();
  const between = look(pid);
  const ended = await end();
  return { before, between, after: look(pid), made, ended };
}

const a = (kB) => `${(kB / VMS).toFixed(1)} kB`;

/** The measured figures, by name. */
const figures = {
  "memory of the process, a VM": ({ before, between }) => a(between.process - before.process),
  "memory of the host in all, a VM": ({ before, between }) => a(before.host - between.host),
  "descriptors, a VM": ({ before, between }) => String((between.fds - before.fds) / VMS),
  "descriptors left after the end": ({ before, after }) => String(after.fds - before.fds),
  "made, and run to the first exit, a VM": ({ made }) => time(made / VMS),
  "closed, a VM": ({ ended }) => time(ended / VMS),
};

async function inC(stage) {
  const yardstick = await stage.yardstick();
  const ns = async (line) => (await yardstick.ask(line)).ns;
  return lives(
    yardstick.pid,
    () => ns(`hold ${VMS}`),
    () => ns(`drop ${VMS}`),
  );
}

function inJavaScript(stage) {
  const { program, cpuid } = stage;
  const alive = [];
  const timed = (work) => () => {
    const start = process.hrtime.bigint();
    for (let i = 0; i < VMS; i++) work();
    return Number(process.hrtime.bigint() - start);
  };
  const make = () => {
    const sandbox = new Sandbox(stage.kvm, { program, cpuid });
    sandbox.vcpu.runSync({ throughSignals: true });
    alive.push(sandbox);
  };
  return lives(
    "self",
    timed(make),
    timed(() => alive.pop().close()),
  );
}

export const question = {
  name: "many-vms",
  asks: `What do ${VMS} VMs that exist at the same time cost?`,
  note: "Each VM has 2 MiB of memory and has touched a few pages of this memory. The figures are measured once.",
  guest: "port",
  async values(stage) {
    const c = await inC(stage);
    const js = await inJavaScript(stage);
    return Object.entries(figures).map(([what, figure]) => ({
      what,
      C: figure(c),
      JavaScript: figure(js),
    }));
  },
};
