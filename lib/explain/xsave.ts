/** Explains why XCR0 or an XSAVE area was refused. lib/oracle/xsave.ts has the rules. */
import { isBytes } from "../abi/bytes.ts";
import { Xcrs } from "../abi/generated/structs.ts";
import {
  GET_XSAVE_RULES,
  SET_XCRS_RULES,
  SET_XSAVE_RULES,
  XSAVE_SIZE_RULES,
} from "../oracle/xsave.ts";
import { causesOf } from "./findings.ts";
import { capability, type Reasons, type Refusal, type Rules, sentStruct } from "./refusal.ts";
import { supportedTable, vcpuTable } from "./tables.ts";

/** The causes of errors of KVM_SET_XCRS. */
export const SET_XCRS: Reasons = {
  EINVAL: causesOf(SET_XCRS_RULES, (refusal: Refusal) => ({
    xcrs: sentStruct(refusal, Xcrs),
    table: vcpuTable(refusal.evidence),
    get capability() {
      return capability(refusal.evidence, "KVM_CAP_XCRS");
    },
  })),
};

function areaOf({ argument, sent }: Refusal): Uint8Array | undefined {
  if (isBytes(argument)) return argument;
  const { region } = sent;
  return Array.isArray(region) ? new Uint8Array(Uint32Array.from(region).buffer) : undefined;
}

const SIZE: Rules = causesOf(XSAVE_SIZE_RULES, ({ argument, evidence }: Refusal) => ({
  bytes: isBytes(argument) ? argument.byteLength : undefined,
  size: capability(evidence, "KVM_CAP_XSAVE2"),
}));

/** The causes of errors of KVM_SET_XSAVE. */
export const SET_XSAVE: Reasons = {
  EINVAL: causesOf(SET_XSAVE_RULES, (refusal: Refusal) => ({
    area: areaOf(refusal),
    supported: supportedTable(refusal.evidence),
  })),
  EFAULT: SIZE,
};

/** The causes of errors of KVM_GET_XSAVE2. */
export const GET_XSAVE2: Reasons = { EFAULT: SIZE };

/** The causes of errors of KVM_GET_XSAVE. */
export const GET_XSAVE: Reasons = {
  EINVAL: causesOf(GET_XSAVE_RULES, ({ evidence }: Refusal) => ({
    size: capability(evidence, "KVM_CAP_XSAVE2"),
  })),
};
