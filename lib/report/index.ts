/**
 * The entry `node-kvm/report`: verdicts on one or several kernels, formatted as text, KTAP, JUnit, HTML, and for KCIDB,
 * LAVA and GitHub Actions. It works on any operating system.
 */
export type {
  Evidence,
  HostFacts,
  TableDifferences,
  TableField,
} from "./evidence.ts";
export { toGithubAnnotations, toGithubSummary } from "./github.ts";
export { toHtml } from "./html.ts";
export { matrixToJunit, toJunit } from "./junit.ts";
export { type KcidbRun, toKcidb } from "./kcidb.ts";
export { matrixToKtap, toKtap } from "./ktap.ts";
export { matrixToLava, toLava } from "./lava.ts";
export {
  type Column,
  type Difference,
  differences,
  isGreenMatrix,
  type Matrix,
  type Row,
  toMatrix,
} from "./matrix.ts";
export { MalformedReport, readReport } from "./received.ts";
export {
  type Counts,
  count,
  isGreen,
  type Report,
  type Result,
  type Verdict,
} from "./result.ts";
export { toTable } from "./table.ts";
export { claimLine, type Paint, paint, summary, type TextOptions } from "./text.ts";
