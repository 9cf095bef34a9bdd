/** The entry `node-kvm/worker`: vCPUs in worker threads that handle their exits themselves. */
/// <reference types="node" preserve="true" />
export { type ServedVcpu, serveVcpu } from "./serve-vcpu.ts";
export { VcpuWorker, type VcpuWorkerOptions } from "./vcpu-worker.ts";
