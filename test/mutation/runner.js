/**
 * Stryker's test runner for the unit tests of this project: it runs them in Stryker's own process, and evaluates
 * tests and sources anew for each mutant. A worker of vitest for each mutant takes 20 times as long.
 */
import { createRequire } from "node:module";
import { bundle } from "./bundle.js";
import { openSession } from "./session.js";

/** What the instrumented code reads and writes; the object must stay the same. */
globalThis.__stryker__ ??= {};
const state = globalThis.__stryker__;

const SLOW_MS = 250;

/** The time that this process has had of a CPU: a test is not slow because the machine is busy. */
const cpuMs = () => process.cpuUsage().user / 1000;

class UnitTestRunner {
  static inject = ["options"];
  #files;
  #session;
  #bundle;
  /** The longest that each test took when it passed: quick tests run first. */
  #took = new Map();

  constructor({ nodeKvmTests }) {
    this.#files = nodeKvmTests;
  }

  capabilities() {
    return { reloadEnvironment: true };
  }

  async init() {
    // A property that fails is not made smaller, and one that says no number is tried with 25 values and not 100:
    // most mutants fail with the first.
    createRequire(import.meta.url)("fast-check").configureGlobal({
      endOnFailure: true,
      numRuns: 25,
    });
    this.#session = await openSession();
    globalThis.nodeKvmSession = this.#session;
    this.#bundle = await bundle(this.#files, Object.keys(this.#session.api));
  }

  /**
   * Runs every test, each on sources of its own, so that what is computed once and kept is covered by each test that
   * needs it.
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

  /** Runs the tests that cover a mutant, or all, until one fails. */
  async mutantRun({ activeMutant, testFilter, hitLimit, mutantActivation }) {
    state.hitCount = hitLimit === undefined ? undefined : 0;
    state.hitLimit = hitLimit;
    state.activeMutant = mutantActivation === "static" ? activeMutant.id : undefined;
    let result;
    try {
      const wanted = testFilter && new Set(testFilter);
      const all = this.#session.register(this.#bundle.uncounted);
      state.activeMutant = activeMutant.id;
      // A static mutant, of what is evaluated on loading, is judged by all tests but the slow ones: these take most of
      // the time, and try many values on the same tables as the quick ones.
      const tests = all.filter(({ id }) => wanted?.has(id) ?? this.#cost(id) < SLOW_MS);
      result = await this.#judge(tests);
    } catch (error) {
      // The mutant breaks the loading of the tests or of the sources.
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

/** What Stryker asks a plugin for. */
export const strykerPlugins = [
  { kind: "TestRunner", name: "unit", injectableClass: UnitTestRunner },
];
