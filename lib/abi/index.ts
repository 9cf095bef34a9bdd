/** The public face of `node-kvm/abi`: what the kernel's headers say, and structs as bytes. */
export * from "./generated/constants.ts";
export * from "./generated/ioctls.ts";
export * from "./generated/structs.ts";
export * from "./ioctl.ts";
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
