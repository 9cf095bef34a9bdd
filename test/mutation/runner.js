/**
 * Stryker's test runner for the unit tests of this project: it runs the tests in Stryker's process, and evaluates tests
 * and sources anew for each mutant. Starting a vitest worker for each mutant takes 20 times as long.
 */
import { createRequire } from "node:module";
import { bundle } from "./bundle.js";
import { openSession } from "./session.js";

/** The object that the instrumented code reads and writes; it must not be replaced. */
globalThis.__stryker__ ??= {};
const state = globalThis.__stryker__;

const SLOW_MS = 250;

/** Returns the CPU time of this process in milliseconds, which does not depend on the load of the host. */
const cpuMs = () => process.cpuUsage().user / 1000;

class UnitTestRunner {
  static inject = ["options"];
  #files;
  #session;
  #bundle;
  /** The longest time that each passed test has taken; quick tests run first. */
  #took = new Map();

  constructor({ nodeKvmTests }) {
    this.#files = nodeKvmTests;
  }

  capabilities() {
    return { reloadEnvironment: true };
  }

  async init() {
    // A fast-check property tests 25 values without shrinking, because most mutants fail for the first value.
    createRequire(import.meta.url)("fast-check").configureGlobal({
      endOnFailure: true,
      numRuns: 25,
    });
    this.#session = await openSession();
    globalThis.nodeKvmSession = this.#session;
    this.#bundle = await bundle(this.#files, Object.keys(this.#session.api));
  }

  /**
   * Runs every test with newly evaluated sources. Otherwise, the code of a value that is computed only once would count
   * as covered by the first test only.
   */
  async dryRun() {
    state.mutantCoverage = { static: {}, perTest: {} };
    const tests = [];
    const { length } = this.#session.register(this.#bundle.counted);
    for (let i = 0; i < length; i += 1) {
      const test = this.#session.register(this.#bundle.counted)[i];
      const start = cpuMs();
      state.currentTestId = test.id;
      const failure = await this.#failureOf(test);
      state.currentTestId = undefined;
      const timeSpentMs = cpuMs() - start;
      this.#took.set(test.id, timeSpentMs);
      const result = { id: test.id, name: test.title, timeSpentMs };
      const status = failure === undefined ? { status: 0 } : { status: 1, failureMessage: failure };
      tests.push({ ...result, ...status });
    }
    return { status: "complete", tests, mutantCoverage: state.mutantCoverage };
  }

  /** Runs the tests that cover a mutant, or all tests, until one fails. */
  async mutantRun({ activeMutant, testFilter, hitLimit, mutantActivation }) {
    state.hitCount = hitLimit === undefined ? undefined : 0;
    state.hitLimit = hitLimit;
    state.activeMutant = mutantActivation === "static" ? activeMutant.id : undefined;
    let result;
    try {
      const wanted = testFilter && new Set(testFilter);
      const all = this.#session.register(this.#bundle.uncounted);
      state.activeMutant = activeMutant.id;
      // A static mutant is in code that runs when its module is loaded: only the quick tests run for this mutant.
      // Slow tests would take most of the time, and use the same tables as the quick tests.
      const tests = all.filter(({ id }) => wanted?.has(id) ?? this.#cost(id) < SLOW_MS);
      result = await this.#judge(tests);
    } catch (error) {
      // The mutant makes the tests or the sources fail to load.
      result = { status: "killed", killedBy: [], failureMessage: String(error), nrOfTests: 0 };
    }
    state.activeMutant = undefined;
    if (hitLimit === undefined || state.hitCount <= hitLimit) return result;
    return { status: "timeout", reason: `more than ${hitLimit} hits` };
  }

  async #judge(tests) {
    const sorted = tests.toSorted((a, b) => this.#cost(a.id) - this.#cost(b.id));
    let nrOfTests = 0;
    for (const test of sorted) {
      nrOfTests += 1;
      const start = cpuMs();
      const failureMessage = await this.#failureOf(test);
      if (failureMessage === undefined) {
        this.#took.set(test.id, Math.max(this.#cost(test.id), cpuMs() - start));
        continue;
      }
      return { status: "killed", killedBy: [test.id], failureMessage, nrOfTests };
    }
    return { status: "survived", nrOfTests };
  }

  #cost(id) {
    return this.#took.get(id) ?? 0;
  }

  async #failureOf(test) {
    try {
      await this.#session.run(test);
      return undefined;
    } catch (error) {
      return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    }
  }
}

/** The plugins that Stryker loads from this file; UnitTestRunner implements Stryker's interface TestRunner. */
export const strykerPlugins = [
  { kind: "TestRunner", name: "unit", injectableClass: UnitTestRunner },
];
