/** Defines one row of the broken tables: a table that breaks exactly one lint rule. */
import {
  type CpuidLintOptions,
  type CpuidLintRuleId,
  CpuidTable,
} from "../../../../../lib/cpuid/index.ts";

/** A table that breaks a rule. */
export interface Broken {
  /** The rule that the table breaks. */
  readonly rule: CpuidLintRuleId;
  /** The fault, as a phrase that follows "a table with". */
  readonly fault: string;
  /** The position of the first finding. */
  readonly where: string;
  /** The tables. */
  readonly tables: readonly CpuidTable[];
  readonly options: CpuidLintOptions;
  /** Whether the finding has a fix. */
  readonly isFixable: boolean;
}

type MakeRow = (
  rule: CpuidLintRuleId,
  fault: string,
  where: string,
  table: CpuidTable | readonly CpuidTable[],
  options?: CpuidLintOptions,
) => Broken;

function row(isFixable: boolean): MakeRow {
  return (rule, fault, where, table, options = {}) => {
    const tables = table instanceof CpuidTable ? [table] : table;
    return { rule, fault, where, tables, options, isFixable };
  };
}

/** Creates a row whose fault a person must repair. */
export const broken: MakeRow = row(false);

/** Creates a row whose fault fixTable() repairs. */
export const fixable: MakeRow = row(true);
