/** Computes the ids of registers for KVM_GET_ONE_REG and KVM_SET_ONE_REG, as the macros of asm/kvm.h do. */
import {
  KVM_REG_SIZE_U64,
  KVM_REG_X86,
  KVM_X86_REG_TYPE_KVM,
  KVM_X86_REG_TYPE_MSR,
} from "./generated/constants.ts";

const id = (type: number, index: number): bigint =>
  KVM_REG_X86 | KVM_REG_SIZE_U64 | (BigInt(type) << 32n) | BigInt(index);

/** Returns the id of an MSR. */
export function KVM_X86_REG_MSR(index: number): bigint {
  return id(KVM_X86_REG_TYPE_MSR, index);
}

/** Returns the id of one of KVM's own registers, such as `KVM_REG_GUEST_SSP`. */
export function KVM_X86_REG_KVM(index: number): bigint {
  return id(KVM_X86_REG_TYPE_KVM, index);
}
