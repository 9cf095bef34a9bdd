/** Explains why a vCPU's nested state could not be read or written. */
import {
  KVM_STATE_NESTED_EVMCS,
  KVM_STATE_NESTED_FORMAT_SVM,
  KVM_STATE_NESTED_FORMAT_VMX,
  KVM_STATE_NESTED_GIF_SET,
  KVM_STATE_NESTED_GUEST_MODE,
  KVM_STATE_NESTED_MTF_PENDING,
  KVM_STATE_NESTED_RUN_PENDING,
  KVM_STATE_NESTED_SVM_VMCB_SIZE,
} from "../abi/generated/constants.ts";
import { NestedState } from "../abi/generated/structs.ts";
import { hasBit } from "../oracle/bits.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Rule,
  sentStruct,
} from "./refusal.ts";
import { supportedTable } from "./tables.ts";
import { fault, only } from "./verdict.ts";
import { firstOf, hex, unknownBits } from "./wording.ts";

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

/**
 * Returns a sentence if the host does not support nested virtualisation; undefined if the host supports it, or if this
 * is unknown.
 */
function withoutNesting(evidence: Evidence): string | undefined {
  return capability(evidence, "KVM_CAP_NESTED_STATE") === 0
    ? "this KVM has no nested virtualisation (KVM_CAP_NESTED_STATE is 0)"
    : undefined;
}

const noNesting: Rule = ({ evidence }) => fault(withoutNesting(evidence));

/** The causes of errors of KVM_GET_NESTED_STATE. */
export const GET_NESTED_STATE: Reasons = {
  EINVAL: { "no nesting": noNesting },
  E2BIG: {
    "too little room": ({ evidence }) => {
      const size = capability(evidence, "KVM_CAP_NESTED_STATE");
      return only(
        "arch/x86/kvm/x86.c:kvm_arch_vcpu_ioctl",
        `size is less than the size of this vCPU's state; ${size ?? "KVM_CAP_NESTED_STATE"} bytes are always enough`,
      );
    },
  },
};

const nested =
  (judge: (state: NestedState, evidence: Evidence) => string | undefined): Rule =>
  (refusal) => {
    const state = sentStruct(refusal, NestedState);
    return fault(state && judge(state, refusal.evidence));
  };

/** The causes of errors of KVM_SET_NESTED_STATE. */
export const SET_NESTED_STATE: Reasons = {
  EINVAL: {
    "no nesting": noNesting,
    header: nested(explainHeader),
    format: nested(({ format }, evidence) => {
      const own = formatOf(evidence);
      return own === undefined || format === own
        ? undefined
        : `format ${format}: this KVM's is ${own} (0 is VMX, 1 is SVM)`;
    }),
    "SVM state": nested((state, evidence) =>
      formatOf(evidence) === KVM_STATE_NESTED_FORMAT_SVM &&
      state.format === KVM_STATE_NESTED_FORMAT_SVM
        ? explainSvm(state, evidence)
        : undefined,
    ),
  },
};

/**
 * Returns this KVM's format of nested state, VMX or SVM. The CPUID features that KVM supports for guests determine the
 * format; undefined if these features are unknown.
 */
function formatOf(evidence: Evidence): number | undefined {
  const table = supportedTable(evidence);
  if (table?.has("svm")) return KVM_STATE_NESTED_FORMAT_SVM;
  return table?.has("vmx") ? KVM_STATE_NESTED_FORMAT_VMX : undefined;
}

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

// arch/x86/kvm/svm/nested.c:svm_set_nested_state checks the fields of the header
function explainSvm({ flags, size }: NestedState, { vcpu }: Evidence): string | undefined {
  const unknown = unknownBits("flags", flags, SVM_FLAGS, "SVM has");
  if (unknown !== undefined) return unknown;
  const efer = known(vcpu?.sregs)?.efer;
  if (efer !== undefined && !hasBit(efer, EFER_SVME) && flags !== KVM_STATE_NESTED_GIF_SET) {
    return `flags ${hex(flags)}: with EFER.SVME 0 they must be just KVM_STATE_NESTED_GIF_SET (0x100)`;
  }
  const whole = HEADER_BYTES + KVM_STATE_NESTED_SVM_VMCB_SIZE;
  return (flags & KVM_STATE_NESTED_GUEST_MODE) !== 0 && size < whole
    ? `size ${size}: GUEST_MODE requires a VMCB, ${whole} bytes in total`
    : undefined;
}
