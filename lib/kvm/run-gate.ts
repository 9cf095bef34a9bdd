/** Stops the vCPUs of one VM together, and lets them go on. How one stops is vcpu-runs.ts. */

/** A run that was asked for and has not ended. */
export interface GatedRun {
  /** Lets it enter the guest. Its end, a stop too, is told to {@link RunGate.leave}. */
  start(): void;
  /** Asks it to stop, and to be started again later. */
  stop(): void;
  /** Asks it to end. */
  end(): void;
}

/** What every run beside the event loop goes through. One for each VM. */
export class RunGate {
  readonly #inside = new Set<GatedRun>();
  readonly #waiting = new Set<GatedRun>();
  #emptied: (() => void)[] = [];
  #isShut: boolean = false;

  /** Whether runs wait. */
  get isShut(): boolean {
    return this.#isShut;
  }

  /** Starts a run, or lets it wait until the gate is open. */
  enter(run: GatedRun): void {
    if (this.#isShut) {
      this.#waiting.add(run);
      return;
    }
    this.#inside.add(run);
    run.start();
  }

  /** Takes a run out that has stopped, or that waits no longer. */
  leave(run: GatedRun): void {
    this.#waiting.delete(run);
    this.#inside.delete(run);
    if (this.#inside.size === 0) this.#tell();
  }

  /** Shuts the gate. The promise is settled when all that were inside have left, or when it is open again. */
  shut(): Promise<void> {
    this.#isShut = true;
    for (const run of this.#inside) run.stop();
    if (this.#inside.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#emptied.push(resolve));
  }

  /** Asks all runs to end, those that wait too, and waits for none of them. */
  end(): void {
    for (const run of [...this.#inside, ...this.#waiting]) run.end();
  }

  /** Opens the gate, and starts those that wait. */
  open(): void {
    this.#isShut = false;
    this.#tell();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const run of waiting) this.enter(run);
  }

  #tell(): void {
    for (const resolve of this.#emptied.splice(0)) resolve();
  }
}
