/** Why a vCPU's nested state could not be read or written. */
import {
  KVM_STATE_NESTED_EVMCS,
  KVM_STATE_NESTED_FORMAT_SVM,
  KVM_STATE_NESTED_GIF_SET,
  KVM_STATE_NESTED_GUEST_MODE,
  KVM_STATE_NESTED_MTF_PENDING,
  KVM_STATE_NESTED_RUN_PENDING,
  KVM_STATE_NESTED_SVM_VMCB_SIZE,
} from "../abi/generated/constants.ts";
import { NestedState } from "../abi/generated/structs.ts";
import { capability, type Evidence, known, type Reasons, sentStruct } from "./refusal.ts";
import { firstOf, hasBit, hex, unknownBits } from "./wording.ts";

const HEADER_BYTES = 128;
const FLAGS =
  KVM_STATE_NESTED_RUN_PENDING |
  KVM_STATE_NESTED_GUEST_MODE |
  KVM_STATE_NESTED_EVMCS |
  KVM_STATE_NESTED_MTF_PENDING |
  KVM_STATE_NESTED_GIF_SET;
const SVM_FLAGS =
  KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING | KVM_STATE_NESTED_GIF_SET;
const EFER_SVME = 12;

/** Says that the host does not do nested virtualisation; `undefined` when it does, or it is not known. */
function withoutNesting(evidence: Evidence): string | undefined {
  return capability(evidence, "KVM_CAP_NESTED_STATE") === 0
    ? "this KVM has no nested virtualisation (KVM_CAP_NESTED_STATE is 0)"
    : undefined;
}

/** The reasons of KVM_GET_NESTED_STATE. */
export const GET_NESTED_STATE: Reasons = {
  EINVAL: ({ evidence }) => withoutNesting(evidence),
  E2BIG: ({ evidence }) => {
    const size = capability(evidence, "KVM_CAP_NESTED_STATE");
    return `size is less than this vCPU's state takes; ${size ?? "KVM_CAP_NESTED_STATE"} bytes are always enough`;
  },
};

/** The reasons of KVM_SET_NESTED_STATE. */
export const SET_NESTED_STATE: Reasons = {
  EINVAL: (refusal) => {
    const state = sentStruct(refusal, NestedState);
    const { evidence } = refusal;
    return firstOf(
      () => withoutNesting(evidence),
      () => state && explainHeader(state),
      () => state && explainFormat(state, evidence),
    );
  },
};

function explainHeader({ size, flags }: NestedState): string | undefined {
  if (size < HEADER_BYTES) return `size ${size}: the header alone has ${HEADER_BYTES} bytes`;
  const isPending = (flags & KVM_STATE_NESTED_RUN_PENDING) !== 0;
  return firstOf(
    () => unknownBits("flags", flags, FLAGS),
    () =>
      isPending && (flags & KVM_STATE_NESTED_GUEST_MODE) === 0
        ? `flags ${hex(flags)}: RUN_PENDING without GUEST_MODE`
        : undefined,
  );
}

function explainFormat(state: NestedState, evidence: Evidence): string | undefined {
  const format = known(evidence.vcpu?.nestedFormat);
  if (format === undefined) return undefined;
  if (state.format !== format) {
    return `format ${state.format}: this KVM's is ${format} (0 is VMX, 1 is SVM)`;
  }
  return format === KVM_STATE_NESTED_FORMAT_SVM ? explainSvm(state, evidence) : undefined;
}

// arch/x86/kvm/svm/nested.c:svm_set_nested_state, as far as the header goes
function explainSvm({ flags, size }: NestedState, { vcpu }: Evidence): string | undefined {
  const unknown = unknownBits("flags", flags, SVM_FLAGS, "SVM has");
  if (unknown !== undefined) return unknown;
  const efer = known(vcpu?.sregs)?.efer;
  if (efer !== undefined && !hasBit(efer, EFER_SVME) && flags !== KVM_STATE_NESTED_GIF_SET) {
    return `flags ${hex(flags)}: with EFER.SVME 0 they must be just KVM_STATE_NESTED_GIF_SET (0x100)`;
  }
  const whole = HEADER_BYTES + KVM_STATE_NESTED_SVM_VMCB_SIZE;
  return (flags & KVM_STATE_NESTED_GUEST_MODE) !== 0 && size < whole
    ? `size ${size}: GUEST_MODE comes with a VMCB, ${whole} bytes in all`
    : undefined;
}
