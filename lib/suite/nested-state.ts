/**
 * The state of a vCPU that executes a nested guest (L2), for KVM_SET_NESTED_STATE. Only AMD's SVM is supported, because
 * its state is one VMCB, which KVM checks on the same terms as VMRUN.
 */
import {
  KVM_STATE_NESTED_FORMAT_SVM,
  KVM_STATE_NESTED_GIF_SET,
  KVM_STATE_NESTED_GUEST_MODE,
  KVM_STATE_NESTED_SVM_VMCB_SIZE,
  NestedState,
  sizeOf,
} from "../abi/index.ts";
import type { Vcpu } from "../index.ts";

const EFER_SVME = 1n << 12n;
const HEADER = sizeOf(NestedState);
const [FLAGS, FORMAT, SIZE, VMCB_PA] = [0, 2, 4, 8];

/** Offsets in a VMCB: the control area, and the area of the saved state from 0x400 (AMD APM Vol. 2, appendix B). */
const VMCB = { intercepts: 0x10, asid: 0x58, efer: 0x4d0, cr4: 0x548, cr3: 0x550, cr0: 0x558 };
const INTERCEPT_VMRUN = 1;

/** The address of the nested guest's VMCB. KVM only checks that it is a valid guest physical address. */
const VMCB_GPA = 0x3000n;

function header(flags: number, size: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(size));
  view.setUint16(FLAGS, flags, true);
  view.setUint16(FORMAT, KVM_STATE_NESTED_FORMAT_SVM, true);
  view.setUint32(SIZE, size, true);
  return view;
}

/**
 * Puts a vCPU in long mode into a nested guest with KVM_SET_NESTED_STATE, without a run. The vCPU's CPUID table must
 * have SVM.
 *
 * @throws {@link KvmError} `EINVAL` if KVM does not support nested guests.
 */
export function enterNestedGuest(vcpu: Vcpu): void {
  const sregs = vcpu.getSregs();
  const efer = sregs.efer | EFER_SVME;
  vcpu.setSregs({ ...sregs, efer });
  const flags = KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET;
  const state = header(flags, HEADER + KVM_STATE_NESTED_SVM_VMCB_SIZE);
  state.setBigUint64(VMCB_PA, VMCB_GPA, true);
  const vmcb = new DataView(state.buffer, HEADER);
  vmcb.setUint32(VMCB.intercepts, INTERCEPT_VMRUN, true);
  vmcb.setUint32(VMCB.asid, 1, true);
  vmcb.setBigUint64(VMCB.efer, efer, true);
  vmcb.setBigUint64(VMCB.cr4, sregs.cr4, true);
  vmcb.setBigUint64(VMCB.cr3, sregs.cr3, true);
  vmcb.setBigUint64(VMCB.cr0, sregs.cr0, true);
  vcpu.setNestedState(new Uint8Array(state.buffer));
}

/** Returns a vCPU from its nested guest with KVM_SET_NESTED_STATE. */
export function leaveNestedGuest(vcpu: Vcpu): void {
  vcpu.setNestedState(new Uint8Array(header(KVM_STATE_NESTED_GIF_SET, HEADER).buffer));
}
