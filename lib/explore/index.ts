/** The entry `node-kvm/explore`: what the KVM of a kernel does, decided by calls instead of the kernel's version. */
export type { DecidedTrait } from "../suite/traits.ts";
export {
  type Fingerprint,
  type FingerprintRow,
  type FingerprintStage,
  fingerprint,
} from "./fingerprint.ts";
