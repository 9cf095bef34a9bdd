/**
 * The catalogue: the rules of KVM's CPUID life cycle, by number. A claim names its rule by the number, and several
 * claims may check one rule. docs/catalogue.md is generated from this file and from the claims.
 */

/** A rule of the catalogue. */
export interface CatalogueRule {
  /** A sentence that describes the behaviour of KVM on the newest kernel. */
  readonly rule: string;
  /** The kernel function, the commit, the section of api.rst or the kernel selftest that states or implements the rule. */
  readonly source: string;
  /** The requirements of the check to a host, in addition to /dev/kvm. */
  readonly needs?: string;
}

/** Rules about one subject. */
export interface CatalogueArea {
  readonly title: string;
  readonly rules: Readonly<Record<number, CatalogueRule>>;
}

const ARGUMENTS: CatalogueArea = {
  title: "Arguments and sizes",
  rules: {},
};

const VALIDATION: CatalogueArea = {
  title: "Validation and rollback",
  rules: {},
};

const RUNTIME_UPDATES: CatalogueArea = {
  title: "Updates at run time",
  rules: {},
};

const AFTER_RUN: CatalogueArea = {
  title: "After KVM_RUN",
  rules: {},
};

const HAS_RUN: CatalogueArea = {
  title: "What counts as a run",
  rules: {},
};

const PARAVIRTUAL: CatalogueArea = {
  title: "PV_UNHALT, hypervisor bases and PV features",
  rules: {},
};

const OTHER_INTERFACES: CatalogueArea = {
  title: "Hyper-V, Xen, and other ioctls that depend on CPUID",
  rules: {},
};

const SELFTESTS: CatalogueArea = {
  title: "Further rules of the kernel's selftests",
  rules: {},
};

/** The areas in the order of their numbers. */
export const catalogue: readonly CatalogueArea[] = [
  ARGUMENTS,
  VALIDATION,
  RUNTIME_UPDATES,
  AFTER_RUN,
  HAS_RUN,
  PARAVIRTUAL,
  OTHER_INTERFACES,
  SELFTESTS,
];
