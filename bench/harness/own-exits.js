// The worker thread of worker.js: it has its own VM, and handles as many exits as each message requests.
import { parentPort, workerData } from "node:worker_threads";
import { lowLevelLoop, runSyncLoop } from "./loops.js";
import { Stage } from "./stage.js";

const { guest, ring, form } = workerData;
const { vcpu } = new Stage({ guest, ring, yardstick: "" }).sandbox();
const loop = { lowLevel: lowLevelLoop, runSync: runSyncLoop }[form](vcpu, "io");
parentPort.on("message", (n) => parentPort.postMessage(loop(n)));
parentPort.postMessage("ready");
