/**
 * The part of vitest's interface that unit tests use, in one process: tests are registered once, and run for each
 * mutant. bundle.js bundles the tests; Stryker's interface is runner.js.
 */
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { format } from "node:util";

/** The matchers of vitest, without its other parts. */
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

/** Formats the title of a row: `%s` and similar are replaced by its values. */
function titleOf(title, row) {
  const count = title.replaceAll("%%", "").split("%").length - 1;
  return format(title, ...[row].flat().slice(0, count));
}

/** Calls `each` with the title and the arguments of every row; as in vitest, rows are spread if all are arrays. */
function eachRow(rows, title, each) {
  const isSpread = rows.every(Array.isArray);
  for (const row of rows) each(titleOf(title, row), isSpread ? row : [row]);
}

/** Creates the interface that the tests import, and the list of the tests that they register. */
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
    /** Starts a file, which has its own hooks. The bundle calls it before each file. */
    file(name) {
      scope = { name: `${name} > `, before: [], after: [] };
    },
    /** Evaluates the bundle anew and returns the tests that it registers. */
    register(evaluate) {
      tests = [];
      evaluate();
      return tests;
    },
    /** Runs one test with its hooks, and throws its error. A skipped test passes. */
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
