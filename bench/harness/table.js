// Formats tables as text for a terminal.

const UNITS = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "us"],
  [1, "ns"],
];

/** Formats a time with three digits and a unit. @param {number} ns */
export function time(ns) {
  const size = Math.abs(ns);
  const [one, unit] = UNITS.find(([least]) => size >= least) ?? [1, "ns"];
  const value = ns / one;
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return `${value.toFixed(Math.min(2, digits))} ${unit}`;
}

const limits = {
  ratio: (most) => `<= ${most.toFixed(2)} x`,
  over: (most) => `<= + ${time(most)}`,
  total: (most) => `<= ${time(most)}`,
};

/** @param {{ kind: keyof typeof limits, most: number }} limit */
export const limitText = ({ kind, most }) => limits[kind](most);

const HEADINGS = ["", "min", "median", "p99", "ratio", "more", "limit", ""];

/** Names the row with which a row is compared, if it is not the first row. */
function remark({ what, against, verdict = "" }, first) {
  const other = against === first || against === what ? "" : `to "${against}"`;
  return [verdict, other].filter((word) => word !== "").join(", ");
}

function cells(row, _, [first]) {
  const limit = row.limit === undefined ? "" : limitText(row.limit);
  if (row.failed !== undefined)
    return [row.what, "", "", "", "", "", limit, `FAILED: ${row.failed}`];
  const { min, median, p99, against, ratio, over } = row;
  const compared =
    ratio === undefined || against === row.what ? ["", ""] : [ratio.toFixed(3), time(over)];
  return [row.what, ...[min, median, p99].map(time), ...compared, limit, remark(row, first.what)];
}

function aligned(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const line = (row) =>
    row
      .map((cell, i) =>
        i === 0 || i === row.length - 1 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]),
      )
      .join("  ");
  return rows.map((row) => `  ${line(row)}`.trimEnd()).join("\n");
}

/** Formats a row whose cells have individual names. */
function named({ what, ...figures }) {
  return [what, ...Object.entries(figures).map(([name, figure]) => `${name} ${figure}`)];
}

/** Formats the results of one question. @param {object} answer */
export function text({ name, asks, note, tables }) {
  const parts = tables.map(({ ring, rows, values }) => {
    const body =
      rows === undefined ? aligned(values.map(named)) : aligned([HEADINGS, ...rows.map(cells)]);
    return `${[name, ...(ring === undefined ? [] : [ring])].join(", ")}\n${body}\n`;
  });
  return [`# ${asks}`, ...(note === undefined ? [] : [note]), "", ...parts].join("\n");
}
