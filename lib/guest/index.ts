/** The entry `node-kvm/guest`: programs for a VM, as bytes and registers. It does not use KVM. */
export { Assembler, type Condition } from "./assemble.ts";
export { Block } from "./block.ts";
export { GuestBuilder } from "./builder.ts";
export {
  handlerAddresses,
  protectedHandlers,
  realHandlers,
  type UserSelectors,
  VECTORS,
} from "./faults.ts";
export type { Bitness, Code, X86 } from "./iced.ts";
export * from "./layout.ts";
export {
  type Mode,
  type ModeName,
  type ModeOptions,
  modes,
  type Piece,
  type StartRegs,
} from "./modes.ts";
export {
  type Address,
  at,
  type LabelOperand,
  type Memory,
  mem,
  type Operand,
  type Register,
  type Size,
} from "./operand.ts";
export * from "./paging.ts";
export { guest, type Program, type WritableMemory } from "./program.ts";
export { Recorder } from "./recorder.ts";
export * from "./registers.ts";
export * from "./segments.ts";
export { SystemBlock } from "./system.ts";
export * from "./ucall.ts";
