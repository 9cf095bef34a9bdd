/** The entry `node-kvm/abi`: constants, structs and ioctls of the kernel's headers, and structs as bytes. */
export * from "./generated/constants.ts";
export * from "./generated/ioctls.ts";
export * from "./generated/structs.ts";
export * from "./ioctl.ts";
export * from "./limits.ts";
export { MSRS, msrName } from "./msrs.ts";
export * from "./register-id.ts";
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
export type { StructWith, WholeStruct } from "./whole.ts";
