/** Tests of colours, widths and live blocks on terminals of several sizes. */
import { describe, expect, test } from "vitest";
import {
  canRedraw,
  hasColours,
  LiveBlock,
  lineWidth,
  tableWidth,
} from "../../../lib/cli/terminal.ts";
import { FakeTerminal, SIZES } from "./fake-terminal.ts";

const TERMINAL = { isTTY: true };
const PIPE = { isTTY: false };

describe("the stream and the environment decide whether colours are used:", () => {
  test.each([
    ["a terminal", TERMINAL, { TERM: "xterm-256color" }, true],
    ["a pipe", PIPE, { TERM: "xterm-256color" }, false],
    ["a pipe with FORCE_COLOR", PIPE, { FORCE_COLOR: "1" }, true],
    ["a pipe with an empty FORCE_COLOR", PIPE, { FORCE_COLOR: "" }, true],
    ["a terminal with FORCE_COLOR=0", TERMINAL, { TERM: "xterm", FORCE_COLOR: "0" }, false],
    ["a terminal with NO_COLOR", TERMINAL, { TERM: "xterm", NO_COLOR: "1" }, false],
    [
      "a terminal with NODE_DISABLE_COLORS",
      TERMINAL,
      { TERM: "xterm", NODE_DISABLE_COLORS: "1" },
      false,
    ],
    ["a terminal with TERM=dumb", TERMINAL, { TERM: "dumb" }, false],
    ["a dumb terminal with FORCE_COLOR", TERMINAL, { TERM: "dumb", FORCE_COLOR: "1" }, true],
  ] as const)("for %s", (_, stream, env, expected) => {
    expect(hasColours(stream, env)).toBe(expected);
  });
});

test("output is wrapped to the terminal's width; without a terminal, tables have 80 columns", () => {
  expect([lineWidth(PIPE), tableWidth(PIPE)]).toEqual([Infinity, 80]);
  const terminal = { isTTY: true, columns: 40 };
  expect([lineWidth(terminal), tableWidth(terminal)]).toEqual([40, 40]);
});

test("a terminal that reports no width has 80 columns", () => {
  const terminal = { isTTY: true, columns: 0 };
  expect([lineWidth(terminal), tableWidth(terminal)]).toEqual([80, 80]);
});

test.each([
  ["a terminal", TERMINAL, { TERM: "xterm" }, true],
  ["a dumb terminal", TERMINAL, { TERM: "dumb" }, false],
  ["a pipe", PIPE, { TERM: "xterm" }, false],
])("the stream and TERM decide whether the live block is used: %s", (_, stream, env, expected) => {
  expect(canRedraw(stream, env)).toBe(expected);
});

describe.each(SIZES)("a live block on a terminal of %i x %i", (columns, rows) => {
  const many = Array.from({ length: 70 }, (_, i) => `${i}: ${"a long state, ".repeat(20)}`);

  test("leaves a row for the cursor, and shows the last lines, cut to the terminal's width", () => {
    const terminal = new FakeTerminal(columns, rows);
    new LiveBlock(terminal).draw(many);
    expect(terminal.all).toHaveLength(rows - 1);
    expect(terminal.screen.at(-1)).toMatch(/^69: .*…$/);
    expect(terminal.screen.filter((line) => line.length >= columns)).toEqual([]);
  });

  test("replaces its previous lines completely, and scrolls no line off the screen", () => {
    const terminal = new FakeTerminal(columns, rows);
    const block = new LiveBlock(terminal);
    for (let i = 0; i < 9; i += 1) block.draw(many.slice(i));
    block.draw(["one", "two"]);
    expect(terminal.all).toEqual(["one", "two"]);
    block.erase();
    expect(terminal.all).toEqual([]);
  });

  test("is not written again if nothing has changed", () => {
    const terminal = new FakeTerminal(columns, rows);
    const block = new LiveBlock(terminal);
    block.draw(["one", "two"]);
    const { written } = terminal;
    block.draw(["one", "two"]);
    expect(terminal.written).toBe(written);
  });

  test("is erased even if the terminal became narrower and wrapped the block", () => {
    const terminal = new FakeTerminal(columns, rows);
    const block = new LiveBlock(terminal);
    block.draw(["x".repeat(columns - 2), "y".repeat(columns - 2)]);
    terminal.resize(Math.ceil(columns / 2) + 1, rows);
    expect(terminal.screen).toHaveLength(4);
    block.draw(["z"]);
    expect(terminal.all).toEqual(["z"]);
  });
});

test("a wide character counts as two columns, so that a line of wide characters does not wrap", () => {
  const terminal = new FakeTerminal(40, 10);
  new LiveBlock(terminal).draw(["漢".repeat(40)]);
  expect(terminal.screen[0]?.length).toBeLessThan(20);
});
