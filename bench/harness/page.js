// Formats the results as one HTML page without scripts. For each row, the page draws the rounds next to the rounds of
// C. table.js formats text.
import { readFileSync } from "node:fs";
import { limitText, time } from "./table.js";

const CSS = readFileSync(new URL("page.css", import.meta.url), "utf8");

/** The width of a row's drawing, in SVG units. */
const WIDTH = 1000;
const HEIGHT = 24;

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** @param {unknown} value */
const escaped = (value) => String(value).replaceAll(/[&<>"]/g, (one) => ENTITIES[one]);

/**
 * Returns the x coordinate of a time. Rounds beyond the end of the scale are drawn at its end.
 * @param {number} ns @param {number} end
 */
const place = (ns, end) => Math.round((Math.min(ns, end) / end) * WIDTH * 10) / 10;

/** Returns an SVG path with vertical lines at these times. */
const lines = (times, end) => times.map((ns) => `M${place(ns, end)} 0V${HEIGHT}`).join("");

/**
 * Draws the rounds of a row and their median; a dashed line shows the median of the row with which this row is
 * compared.
 */
function drawing({ side, each, median, what }, base, end) {
  const kind = side === "C" ? "c" : "javascript";
  const compared = base === undefined ? "" : `<path class="base" d="${lines([base], end)}"/>`;
  return (
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" ` +
    `aria-label="${escaped(`${what}: median ${time(median)} of ${each.length} rounds`)}">` +
    `<path class="rounds ${kind}" d="${lines(each, end)}"/>` +
    `<path class="median ${kind}" d="${lines([median], end)}"/>${compared}</svg>`
  );
}

function figures({ what, median, min, p99, against, ratio, over, limit, verdict }) {
  const isCompared = ratio !== undefined && against !== what;
  const parts = [
    `median ${time(median)}`,
    `${time(min)} to ${time(p99)}`,
    ...(isCompared
      ? [`${ratio.toFixed(2)} x, ${over < 0 ? "" : "+"}${time(over)} to ${against}`]
      : []),
    ...(limit === undefined ? [] : [`limit ${limitText(limit)}`]),
  ];
  const isMissed = verdict === "NOT reached";
  const judged =
    verdict === undefined
      ? ""
      : `, <span${isMissed ? ' class="missed"' : ""}>${escaped(verdict)}</span>`;
  return `${escaped(parts.join("; "))}${judged}`;
}

function row(one, rows, end) {
  const { what, side, failed, against } = one;
  const title = `<p>${escaped(what)}${side === "C" || what.startsWith("C") ? "" : ` <span class="note">${escaped(side)}</span>`}</p>`;
  if (failed !== undefined)
    return `<div class="row">${title}<p class="missed">FAILED: ${escaped(failed)}</p></div>`;
  const base = against === what ? undefined : rows.find((other) => other.what === against)?.median;
  return (
    `<div class="row">${title}${drawing(one, base, end)}` +
    `<p class="figures">${figures(one)}</p></div>`
  );
}

function chart({ ring, rows, values }) {
  const title = ring === undefined ? "" : `<h3>${escaped(ring)}</h3>`;
  if (rows === undefined) {
    const cells = ({ what, ...rest }) =>
      `<tr><th>${escaped(what)}</th>${Object.entries(rest)
        .map(([name, value]) => `<td>${escaped(`${name} ${value}`)}</td>`)
        .join("")}</tr>`;
    return `${title}<table>${values.map(cells).join("")}</table>`;
  }
  const end = Math.max(1, ...rows.map(({ p99 = 0 }) => p99)) * 1.02;
  const axis = `<p class="axis"><span>0</span><span>${escaped(time(end))}</span></p>`;
  return `${title}${rows.map((one) => row(one, rows, end)).join("\n")}${axis}`;
}

const question = ({ asks, note, tables }) =>
  `<section><h2>${escaped(asks)}</h2>${note === undefined ? "" : `<p class="note">${escaped(note)}</p>`}\n` +
  `${tables.map(chart).join("\n")}</section>`;

/**
 * Makes the page.
 *
 * @param {{ host: object, rounds: number, questions: readonly object[] }} document the same as `--json` writes
 * @returns {string}
 */
export function page({ host, rounds, questions }) {
  const { release, vendor, node, emulated } = host;
  const where = `Linux ${release}, ${vendor}, Node ${node}${emulated ? ", on an emulated CPU" : ""}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>node-kvm beside C</title>
<style>
${CSS}</style>
</head>
<body>
<h1>node-kvm beside C</h1>
<p>${escaped(where)}; ${rounds} interleaved rounds.</p>
<p class="note">A thin line is the time of an operation in one round, the thick line the median, the dashed line the median of the row with which the row is compared. C is green, JavaScript is blue.</p>
${questions.map(question).join("\n")}
</body>
</html>
`;
}
