/** The entry `node-kvm/machine`: a VM with its RAM, and a VM that runs one guest program. */
export {
  type MappedRamRegion,
  mapRam,
  Ram,
  type RamLayoutOptions,
  type RamOptions,
  type RamRegion,
  ramRegions,
} from "./ram.ts";
export { Sandbox, type SandboxOptions } from "./sandbox.ts";
