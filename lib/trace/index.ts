/** The entry `node-kvm/trace`: calls of the kernel as recordings, text, JSON and C. */
export type { CStyle } from "./c/dialect.ts";
export { type ExportOptions, exportC } from "./export-c.ts";
export { traceToFile } from "./file.ts";
export { toLine } from "./line.ts";
export { toNdjson } from "./ndjson.ts";
export type {
  About,
  CloseStep,
  CounterStep,
  EventFdStep,
  FallocateStep,
  FileStep,
  IoctlStep,
  LinkRecord,
  MapStep,
  MemoryRange,
  ObjectKind,
  ObjectRef,
  OpenStep,
  PermissionStep,
  Range,
  RunStep,
  Step,
  Trace,
  WriteStep,
} from "./record.ts";
export { type Recording, record } from "./recorder.ts";
export { RING_LENGTH } from "./ring.ts";
export { TRACE_CHANNEL } from "./sink.ts";
