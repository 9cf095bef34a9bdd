/** Stops and continues all vCPUs of one VM. runner.ts stops a single vCPU. */

/** A run of a vCPU that was requested and has not ended. */
export interface GatedRun {
  /** Starts the run on the vCPU's thread. The run calls {@link RunGate.leave} when it stops or ends. */
  start(): void;
  /** Requests the run to stop; the gate starts it again later. */
  stop(): void;
  /** Requests the run to end. */
  end(): void;
}

/** Starts and stops the runs of one VM's vCPUs on their own threads. */
export class RunGate {
  readonly #inside = new Set<GatedRun>();
  readonly #waiting = new Set<GatedRun>();
  #emptied: (() => void)[] = [];
  #isShut: boolean = false;

  /** Whether the gate is closed, so that new runs wait. */
  get isShut(): boolean {
    return this.#isShut;
  }

  /** Starts a run, or queues it until the gate is open. */
  enter(run: GatedRun): void {
    if (this.#isShut) {
      this.#waiting.add(run);
      return;
    }
    this.#inside.add(run);
    run.start();
  }

  /** Removes a run that has stopped, or that was cancelled while it waited. */
  leave(run: GatedRun): void {
    this.#waiting.delete(run);
    this.#inside.delete(run);
    if (this.#inside.size === 0) this.#release();
  }

  /**
   * Closes the gate. The returned promise resolves when all started runs have left, or when the gate is opened again.
   */
  shut(): Promise<void> {
    this.#isShut = true;
    for (const run of this.#inside) run.stop();
    if (this.#inside.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#emptied.push(resolve));
  }

  /** Requests all runs to end, including queued runs, without waiting for their end. */
  end(): void {
    for (const run of [...this.#inside, ...this.#waiting]) run.end();
  }

  /** Opens the gate, and starts the queued runs. */
  open(): void {
    this.#isShut = false;
    this.#release();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const run of waiting) this.enter(run);
  }

  #release(): void {
    for (const resolve of this.#emptied.splice(0)) resolve();
  }
}
