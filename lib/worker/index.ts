/** Public entry `node-kvm/worker`: vCPUs that live in worker threads, which handle their exits themselves. */
/// <reference types="node" preserve="true" />
export { type ServedVcpu, serveVcpu } from "./serve-vcpu.ts";
export { VcpuWorker, type VcpuWorkerOptions } from "./vcpu-worker.ts";
