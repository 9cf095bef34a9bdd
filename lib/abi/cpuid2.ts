/** The input type for entries of `struct kvm_cpuid2`; generated/structs.ts has the layout. */
import type { CpuidEntry2 } from "./generated/structs.ts";

/** An entry of a CPUID table to create: only `function` is required; all other members are 0 by default, as in C. */
export type CpuidEntry2Input = Pick<CpuidEntry2, "function"> & Partial<CpuidEntry2>;
