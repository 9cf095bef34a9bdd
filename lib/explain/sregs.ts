/** Explains why KVM_SET_SREGS or KVM_SET_SREGS2 was refused. lib/oracle/control-registers.ts has the rules. */
import { Sregs, Sregs2 } from "../abi/generated/structs.ts";
import { SREGS_RULES, SREGS2_RULES, type SregsAsked } from "../oracle/control-registers.ts";
import { causesOf } from "./findings.ts";
import { type Reasons, type Refusal, type Rules, sentStruct } from "./refusal.ts";
import { supportedTable, vcpuTable } from "./tables.ts";

const asked = <Registers extends Sregs | Sregs2>(
  sregs: Registers | undefined,
  { evidence }: Refusal,
): SregsAsked<Registers> | undefined =>
  sregs && { sregs, table: vcpuTable(evidence), supported: supportedTable(evidence) };

/** The causes that both ioctls have. */
const REGISTERS: Rules = causesOf(SREGS_RULES, (refusal: Refusal) =>
  asked<Sregs | Sregs2>(
    refusal.ioctl === "KVM_SET_SREGS2" ? sentStruct(refusal, Sregs2) : sentStruct(refusal, Sregs),
    refusal,
  ),
);

/** The causes of errors of KVM_SET_SREGS. */
export const SET_SREGS: Reasons = { EINVAL: REGISTERS };

/** The causes of errors of KVM_SET_SREGS2. */
export const SET_SREGS2: Reasons = {
  EINVAL: {
    ...causesOf(SREGS2_RULES, (refusal: Refusal) => asked(sentStruct(refusal, Sregs2), refusal)),
    ...REGISTERS,
  },
};
