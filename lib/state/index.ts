/**
 * The entry `node-kvm/state`: saved states as documents, their errors, and the findings of a check. The entry works on
 * any operating system.
 */
export { stateFromBytes, stateToBytes } from "./binary.ts";
export {
  RestoreError,
  type RestoreErrorOptions,
  type StateDifference,
  StateDocumentError,
  type StateFinding,
} from "./error.ts";
export { stateToJson } from "./json.ts";
export { stateFromJson } from "./json-reader.ts";
export { stateSchema } from "./schema.ts";
export {
  type IoapicRegisters,
  STATE_FORMAT,
  STATE_VERSION,
  type StateSource,
  type VcpuParts,
  type VcpuState,
  type VmParts,
  type VmState,
} from "./state.ts";
