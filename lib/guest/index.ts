/** The entry `node-kvm/guest`: programs for a VM, as bytes and registers. This entry does not use KVM. */
export { Assembler, type Condition } from "./assemble.ts";
export { Block } from "./block.ts";
export { GuestBuilder } from "./builder.ts";
export {
  type InstructionDecoder,
  type InstructionFeatures,
  instructionDecoder,
} from "./decode.ts";
export {
  handlerAddresses,
  protectedHandlers,
  realHandlers,
  type UserSelectorsInput,
  VECTORS,
} from "./faults.ts";
export type { Bitness, Code, Instruction, X86 } from "./iced.ts";
export {
  CODE_GPA,
  CODE_SIZE,
  GDT_GPA,
  HANDLER_STACK_GPA,
  HANDLERS_GPA,
  IDT_GPA,
  MAILBOX_GPA,
  MEMORY_SIZE,
  PAGE_TABLES_GPA,
  RESULTS_GPA,
  STACK_GPA,
  TABLE_GPA,
  TABLE_SIZE,
  TSS_GPA,
} from "./layout.ts";
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
export {
  type IdentityMapOptions,
  identityMap,
  PAGE_LARGE,
  PAGE_PRESENT,
  PAGE_USER,
  PAGE_WRITE,
} from "./paging.ts";
export { guest, type Program, type WritableMemory } from "./program.ts";
export { Recorder } from "./recorder.ts";
export {
  CR0_ET,
  CR0_NE,
  CR0_PE,
  CR0_PG,
  CR4_FSGSBASE,
  CR4_LA57,
  CR4_OSFXSR,
  CR4_OSXSAVE,
  CR4_PAE,
  CR4_PKE,
  CR4_SMAP,
  CR4_SMEP,
  CR4_TSD,
  CR4_UMIP,
  EFER_LMA,
  EFER_LME,
  EFER_NX,
  RFLAGS_FIXED,
  RFLAGS_IOPL3,
} from "./registers.ts";
export {
  codeSegment,
  dataSegment,
  encodeDescriptor,
  encodeGdt,
  encodeIdt,
  encodeIvt,
  encodeTss32,
  encodeTss64,
  nullSegment,
  realSegment,
  TSS_SIZE,
  tssSegment,
} from "./segments.ts";
export { SystemBlock } from "./system.ts";
export {
  ATTEMPT_STACK_GPA,
  type CpuidInput,
  type CpuidResult,
  decodeCpuid,
  decodeUcall,
  FAULT_GPA,
  type Fault,
  isUcall,
  NO_FAULT,
  type PortExit,
  RESULTS_COUNT_GPA,
  type ReadableMemory,
  SYNC_COUNT_GPA,
  UCALL_DONE,
  UCALL_FAULT,
  UCALL_PORT,
  UCALL_RESULTS,
  UCALL_SYNC,
  type Ucall,
  VALUES_GPA,
  VALUES_MAX,
} from "./ucall.ts";
