// Runs a guest while signals other than kicks arrive: those of a profiler and of a listener.
// usage: node signals.js MILLISECONDS
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fromSupported, Kvm } from "node-kvm";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const [, , milliseconds] = process.argv;
let heard = 0;
process.on("SIGUSR2", () => {
  heard += 1;
});
// SIGPROF ends a process that has no handler; a profiler installs its own handler.
if (!process.execArgv.includes("--cpu-prof")) {
  process.on("SIGPROF", () => {
    heard += 1;
  });
}

const STORM = `
  const pid = Number(process.argv[1]);
  process.stdout.write("ready");
  const end = Date.now() + Number(process.argv[2]);
  const again = () => {
    for (let i = 0; i < 5; i += 1) {
      process.kill(pid, "SIGUSR2");
      process.kill(pid, "SIGPROF");
    }
    if (Date.now() < end) setTimeout(again, 1);
  };
  again();
`;
const storm = spawn(process.execPath, ["-e", STORM, String(process.pid), milliseconds], {
  stdio: ["ignore", "pipe", "inherit"],
});
await once(storm.stdout, "data");
// The end of the child is read from its pipe, because SIGCHLD may be lost while libuv's signal pipe is full.
const ended = once(storm.stdout.resume(), "end");
storm.unref();

const kvm = Kvm.open();
const program = guest("long", (g) => {
  g.asm((a) => a.mov("ecx", 20_000).label("next").sub("ecx", 1).jcc("ne", "next"));
  return g.sync(1).sync(2).done();
});
const cpuid = fromSupported(kvm.getSupportedCpuid());
let rounds = 0;
const until = Date.now() + Number(milliseconds);
while (Date.now() < until) {
  const box = new Sandbox(kvm, { program, cpuid });
  const said = JSON.stringify(box.syncs().map((values) => values.map(Number)));
  if (said !== "[[1],[2]]") throw new Error(`the guest sent ${said}`);
  box.vcpu.completeExit();
  box.vm.saveState([box.vcpu]);
  box.close();
  rounds += 1;
  if (rounds % 10 === 0) await new Promise(setImmediate);
}
storm.kill("SIGKILL");
await ended;
await new Promise(setImmediate);
process.stdout.write(JSON.stringify({ rounds, heard }));
