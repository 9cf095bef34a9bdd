/** The progress of `lab run` and `lab bisect`: the state of each machine, and how much of the work is completed. */
import { type Lane, type LaneStep, laneName } from "../lab/campaign.ts";
import type { Column } from "../report/matrix.ts";
import { printable } from "../report/printable.ts";
import { counted } from "../report/text.ts";
import type { KernelNotices } from "./lab-kernel.ts";
import { duration, Progress, timeLeft } from "./progress.ts";
import type { TextStream } from "./terminal.ts";

/** A running machine. */
interface Running {
  state: string;
  readonly since: number;
}

/** The amount of work of a campaign. */
export interface LabWork {
  /** The number of machines; the maximum number if `isMost`. */
  readonly machines: number;
  readonly isMost?: boolean;
  /** The number of claims that each machine judges. */
  readonly claims: number;
}

/** The states of the machines by name, shown by {@link Progress}. */
export class LabProgress implements KernelNotices {
  readonly #progress: Progress;
  readonly #running = new Map<string, Running>();
  /** The duration in milliseconds of each machine that has ended. */
  readonly #times: number[] = [];
  #work: LabWork | undefined;
  #unexpected = 0;
  #mostAtOnce = 1;
  #preparing = "preparing";

  /** Shows that the work is being prepared. */
  constructor(stream: TextStream = process.stderr) {
    this.#progress = new Progress(
      { running: () => this.#lines(), totals: (elapsed) => this.#totals(elapsed) },
      stream,
    );
  }

  /** Whether there is a live block, which shows {@link prepare}. */
  get isLive(): boolean {
    return this.#progress.isLive;
  }

  /** Shows the name of a preparation step, before {@link begin}. */
  prepare(what: string): void {
    this.#preparing = what;
  }

  /** Starts to count machines and claims. */
  begin(work: LabWork): void {
    this.#work = work;
  }

  /** Updates the progress after an event of a campaign. */
  step(lane: Lane, step: LaneStep): void {
    const name = laneName(lane);
    if (step.kind === "ended") this.ended(name, step.column);
    else this.started(name, this.#describe(step), step.kind === "starts");
  }

  /**
   * Records the state of a machine. If `isEvent` is true and there is no live block, the machine's state is also
   * printed as a line.
   */
  started(name: string, state: string, isEvent: boolean = false): void {
    const known = this.#running.get(name);
    this.#running.set(name, { state, since: known?.since ?? performance.now() });
    this.#mostAtOnce = Math.max(this.#mostAtOnce, this.#running.size);
    if (isEvent && !this.#progress.isLive) this.#progress.event(`${printable(name)}: ${state}`);
  }

  /** Records that a machine has ended, and writes the machine's result. */
  ended(name: string, column: Column): void {
    const { since } = this.#running.get(name) ?? { since: performance.now() };
    this.#running.delete(name);
    this.#times.push(performance.now() - since);
    const failed = column.report?.results.filter(({ verdict }) => verdict === "fail").length ?? 0;
    if (column.problem !== undefined || failed > 0 || column.warnings.length > 0) {
      this.#unexpected += 1;
    }
    // The result line is omitted in a bisection, which reports the result of each machine itself.
    if (this.#work?.isMost === true) return;
    const claims = counted(column.report?.results.length ?? 0, "claim");
    const result = column.problem ?? `${claims} judged, ${failed} fail`;
    this.event(`${name}: ${result}`);
  }

  /** Writes a line about any other event. */
  event(line: string): void {
    this.#progress.event(printable(line));
  }

  /** Runs a function that writes to this terminal. */
  above(write: () => void): void {
    this.#progress.above(write);
  }

  /** Stops showing. */
  end(): void {
    this.#progress.end();
  }

  #describe(step: Exclude<LaneStep, { kind: "ended" }>): string {
    switch (step.kind) {
      case "prepares":
        return "prepares";
      case "starts":
        return STARTS[step.how];
      case "judged":
        return `${step.claims} of ${counted(this.#work?.claims ?? step.claims, "claim")} judged`;
      default:
        return step satisfies never;
    }
  }

  #lines(): readonly string[] {
    return Array.from(this.#running, ([name, { state }]) => printable(`${name}: ${state}`));
  }

  #totals(elapsed: number): string {
    const work = this.#work;
    if (work === undefined) return `${printable(this.#preparing)}, ${duration(elapsed)}`;
    const done = this.#times.length;
    const parts = [
      work.isMost === true
        ? `${done} done, ${Math.max(done, work.machines)} at most`
        : `${done}/${work.machines} done`,
      `${this.#running.size} running`,
      ...(work.isMost === true ? [] : [`${this.#unexpected} unexpected`]),
      duration(elapsed),
    ];
    const left = this.#left(work.machines);
    if (left !== undefined) parts.push(timeLeft(left));
    return parts.join(", ");
  }

  /** Estimates the remaining time in milliseconds from the machines that have ended. */
  #left(machines: number): number | undefined {
    const done = this.#times.length;
    if (done === 0 || done >= machines) return undefined;
    const usual = this.#times.reduce((sum, time) => sum + time, 0) / done;
    const now = performance.now();
    const rest = Array.from(this.#running.values(), ({ since }) =>
      Math.max(0, usual - (now - since)),
    );
    const waiting = Math.max(0, machines - done - this.#running.size) * usual;
    const all = waiting + rest.reduce((sum, time) => sum + time, 0);
    return Math.max(all / this.#mostAtOnce, ...rest);
  }
}

const STARTS = {
  boot: "boots",
  save: "boots, to be saved",
  restore: "is restored",
} as const;
