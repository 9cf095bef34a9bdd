/**
 * Implements the part of vitest's interface that unit tests use, in one process: tests are registered once, and run for
 * each mutant. The module bundle.js bundles the tests; runner.js implements Stryker's interface.
 */
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { format } from "node:util";

/** This object has vitest's matchers without the rest of vitest. */
async function makeExpect() {
  const vitest = createRequire(import.meta.url).resolve("vitest/package.json");
  const path = createRequire(vitest).resolve("@vitest/expect");
  const matchers = await import(pathToFileURL(path).href);
  const { chai, getState, setState } = matchers;
  chai.use(matchers.JestExtend);
  chai.use(matchers.JestChaiExpect);
  chai.use(matchers.JestAsymmetricMatchers);
  const expect = (value, message) => chai.expect(value, message);
  Object.assign(expect, chai.expect, globalThis[matchers.ASYMMETRIC_MATCHERS_OBJECT]);
  globalThis[matchers.GLOBAL_EXPECT] = expect;
  setState({ assertionCalls: 0, ...getState(expect) }, expect);
  return expect;
}

class Skipped extends Error {}

/** Formats the title of a row: the row's values replace `%s` and similar placeholders. */
function titleOf(title, row) {
  const count = title.replaceAll("%%", "").split("%").length - 1;
  return format(title, ...[row].flat().slice(0, count));
}

/** Calls `each` with the title and the arguments of every row; as in vitest, rows are spread if all rows are arrays. */
function eachRow(rows, title, each) {
  const isSpread = rows.every(Array.isArray);
  for (const row of rows) each(titleOf(title, row), isSpread ? row : [row]);
}

/** Creates the functions that the tests import, and the list of the tests that they register. */
export async function openSession() {
  const expect = await makeExpect();
  let tests = [];
  let scope = { name: "", before: [], after: [] };
  let finishing = [];

  function nested(name, body) {
    const outer = scope;
    scope = { name: `${outer.name}${name} > `, before: [...outer.before], after: [...outer.after] };
    try {
      body();
    } finally {
      scope = outer;
    }
  }
  const describe = (name, body) => nested(name, body);
  describe.each = (rows) => (title, body) =>
    eachRow(rows, title, (name, values) => nested(name, () => body(...values)));
  function test(title, body) {
    const own = scope;
    tests.push({ id: `${tests.length} ${own.name}${title}`, title, own, body });
  }
  test.each = (rows) => (title, body) =>
    eachRow(rows, title, (name, values) => test(name, () => body(...values)));

  const context = {
    skip(condition = true) {
      if (condition) throw new Skipped();
    },
  };

  return {
    api: {
      expect,
      describe,
      test,
      beforeEach: (hook) => scope.before.push(hook),
      afterEach: (hook) => scope.after.push(hook),
      onTestFinished: (hook) => finishing.push(hook),
    },
    /** Starts a test file, which has separate hooks. The bundle calls this function before each test file. */
    file(name) {
      scope = { name: `${name} > `, before: [], after: [] };
    },
    /** Evaluates the bundle anew and returns the tests that it registers. */
    register(evaluate) {
      tests = [];
      evaluate();
      return tests;
    },
    /** Runs one test with its hooks, and throws the test's error. A skipped test passes. */
    async run({ own, body }) {
      finishing = [];
      try {
        for (const hook of own.before) await hook(context);
        await body(context);
      } catch (error) {
        if (!(error instanceof Skipped)) throw error;
      } finally {
        for (const hook of finishing.reverse()) await hook();
        for (const hook of own.after) await hook();
      }
    },
  };
}
