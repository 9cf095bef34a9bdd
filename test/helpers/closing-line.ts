/** A vitest reporter that ends a run with `N passed, N failed, N skipped`. */
import type { SerializedError } from "vitest";
import type { Reporter, TestModule } from "vitest/node";

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const counts = { passed: 0, failed: unhandled.length, skipped: 0 };
    for (const module of modules) {
      const tests = Array.from(module.children.allTests());
      const states = tests.map((test) => test.result().state);
      for (const state of states) if (state !== "pending") counts[state] += 1;
      // A test file that could not be loaded, or whose hook threw, has no failed test, so it is counted as one failure.
      if (module.state() === "failed" && !states.includes("failed")) counts.failed += 1;
    }
    const { passed, failed, skipped } = counts;
    process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
  }
}
