/** The exit statuses of the commands, and the list of them in --help. lab-exec.ts adds the statuses of `lab exec`. */

/** The exit statuses that have the same meaning for every command. */
export const STATUS = {
  /** The work was done, and all results are as expected. */
  ok: 0,
  /** The work was done, but a result is unexpected, such as a failed claim, a difference, or a host without KVM. */
  finding: 1,
  /** A usage error, or the work could not be done. */
  trouble: 2,
  /** The process was interrupted by SIGINT (Ctrl-C), SIGTERM or SIGHUP. */
  interrupted: 130,
} as const;

/** An exit status and its meaning. */
export type StatusRow = readonly [status: number | string, meaning: string];

/**
 * Returns the list of exit statuses for a command that uses only the common statuses; `ok` and `finding` describe the
 * statuses 0 and 1 of this command.
 */
export function commonStatuses(ok: string, finding?: string): readonly StatusRow[] {
  return [
    [STATUS.ok, ok],
    ...(finding === undefined ? [] : [[STATUS.finding, finding] as const]),
    [STATUS.trouble, "usage error, or the work could not be done"],
    [STATUS.interrupted, "interrupted (Ctrl-C, SIGTERM, SIGHUP)"],
  ];
}

/** Returns the list of exit statuses for a command that prints a report: the common statuses, and {@link reportStatus}. */
export function reportStatuses(ok: string, finding: string): readonly StatusRow[] {
  return commonStatuses(ok, finding).map(([status, meaning]) =>
    status === STATUS.trouble ? [status, `${meaning}; 1 with --reporter ktap`] : [status, meaning],
  );
}

/**
 * Returns the exit status of a command that prints a report.
 *
 * The runner of the kernel's selftests (tools/testing/selftests/kselftest/runner.sh) takes status 2 for an expected
 * failure and reports `ok`, so a command with the reporter `ktap` ends with status 1 if the work could not be done.
 */
export function reportStatus(reporter: string, status: number): number {
  return reporter === "ktap" && status === STATUS.trouble ? STATUS.finding : status;
}

/**
 * Formats the list of exit statuses as the end of a --help. The list is at most 80 columns wide if no meaning has more
 * than 70.
 */
export function statusHelp(rows: readonly StatusRow[]): string {
  const width = Math.max(...rows.map(([status]) => String(status).length));
  const lines = rows.map(([status, meaning]) => `  ${String(status).padEnd(width)}  ${meaning}`);
  return ["", "Exit status:", ...lines].join("\n");
}
