/** The entry `node-kvm/abi`: constants, structs and ioctls of the kernel's headers, and structs as bytes. */
export type { CpuidEntry2Input } from "./cpuid2.ts";
export * from "./generated/constants.ts";
export * from "./generated/ioctls.ts";
export * from "./generated/names.ts";
export * from "./generated/structs.ts";
export {
  type Direction,
  decodeRequest,
  type FdKind,
  type Ioctl,
  type IoctlKind,
  ioctlByRequest,
  type Link,
  type RequestParts,
} from "./ioctl.ts";
export { KVM_MAX_CPUID_ENTRIES, MAX_IO_MSRS } from "./limits.ts";
export { MSRS, msrName } from "./msrs.ts";
export { KVM_X86_REG_KVM, KVM_X86_REG_MSR } from "./register-id.ts";
export {
  type ArrayType,
  encode,
  type Field,
  type FieldType,
  type Layout,
  offsetOf,
  read,
  type Scalar,
  type StructInput,
  sizeOf,
  type Tail,
  write,
} from "./struct.ts";
export type { StructInputWith, WholeStructInput } from "./whole.ts";
