/** A matrix as one self-contained HTML page: it works from file://, in light and dark mode, without a network. */
import { createHash } from "node:crypto";
import { PAGE_CSS, PAGE_JS } from "./generated/texts.ts";
import { differences, isGreenMatrix, type Matrix, type Row, troubles } from "./matrix.ts";
import { printableLines } from "./printable.ts";
import { count, type Result, type Verdict } from "./result.ts";

type Mark = Verdict | "missing";

const MARKS: Readonly<Record<Mark, { readonly sign: string; readonly word: string }>> = {
  pass: { sign: "✓", word: "holds" },
  fail: { sign: "✗", word: "FAILS" },
  deviation: { sign: "≈", word: "deviates as known" },
  skip: { sign: "–", word: "skipped" },
  missing: { sign: "?", word: "not judged" },
};

/** The text between the tags of an element; the hash of the element covers its line breaks. */
const [STYLE, SCRIPT] = [`\n${PAGE_CSS}`, `\n${PAGE_JS}`];

/** The page runs only its own style and script, identified by their hashes, and makes no requests. */
const POLICY = [
  "default-src 'none'",
  `style-src ${hashOf(STYLE)}`,
  `script-src ${hashOf(SCRIPT)}`,
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

function hashOf(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

/** Formats the HTML page of a matrix. `date` is printed unchanged. */
export function toHtml(matrix: Matrix, date: string): string {
  const verdict = isGreenMatrix(matrix)
    ? "Every claim holds on every kernel."
    : "Some claims fail.";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>KVM claims: ${matrix.columns.length} kernels</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>KVM claims on ${matrix.columns.length} kernels</h1>
<p>${verdict} ${matrix.rows.length} claims, ${escapeHtml(date)}.</p>
</header>
<section aria-label="Kernels"><ul class="kernels">
${matrix.columns.map((_, i) => kernelCard(matrix, i)).join("\n")}
</ul></section>
<section aria-label="Claims">
<form class="filter" role="search">
<label>Filter <input type="search" id="filter" placeholder="name, sentence or reason" autocomplete="off"></label>
<label><input type="checkbox" id="differing"> only where kernels differ</label>
<output id="shown" for="filter differing">${matrix.rows.length} claims</output>
</form>
<div class="scroll" tabindex="0" role="region" aria-label="Claims by kernel">
<table>
<thead><tr><th scope="col">Claim</th>${matrix.columns.map(columnHead).join("")}</tr></thead>
<tbody>
${matrix.rows.map((row) => bodyRow(row, matrix)).join("\n")}
</tbody>
</table>
</div>
<p class="legend">${(Object.keys(MARKS) as Mark[]).map((mark) => `<span class="${mark}">${MARKS[mark].sign}</span> ${MARKS[mark].word}`).join(" · ")}. Arrow keys move between cells; Enter opens one.</p>
</section>
${changes(matrix)}
<dialog id="detail" aria-labelledby="detail-title"><h2 id="detail-title"></h2><p id="detail-claim"></p><p id="detail-verdict"></p><pre id="detail-reason"></pre><button type="button" id="detail-close">Close</button></dialog>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function kernelCard(matrix: Matrix, position: number): string {
  const column = matrix.columns[position];
  const results = column?.report?.results ?? [];
  const counts = count(results);
  const failed = results.filter(({ verdict }) => verdict === "fail").map(({ id }) => id);
  const other = troubles(matrix, position);
  const fails = counts.fail === 0 ? "0 fail" : `<strong>${counts.fail} fail</strong>`;
  const lines = [
    ...(failed.length === 0
      ? []
      : [failed.map((id) => `<code>${escapeHtml(id)}</code>`).join(", ")]),
    ...other.map(escapeHtml),
  ];
  const notice = column?.notice === undefined ? "" : `<p>${escapeHtml(column.notice)}</p>`;
  const list =
    lines.length === 0 ? "" : `<ul>${lines.map((line) => `<li>${line}</li>`).join("")}</ul>`;
  const tally = `${counts.pass} hold, ${fails}, ${counts.deviation} deviate, ${counts.skip} skipped`;
  const state =
    column?.report === undefined
      ? "<strong>no report</strong>"
      : `${escapeHtml(column.report.vendor)}: ${tally}`;
  const broken = lines.length > 0 || column?.report === undefined;
  return `<li class="${broken ? "broken" : "kept"}"><h2>${escapeHtml(column?.name ?? "")}</h2><p>${state}</p>${notice}${list}</li>`;
}

function columnHead({ name }: { readonly name: string }): string {
  return `<th scope="col"><span>${escapeHtml(name)}</span></th>`;
}

function bodyRow(row: Row, matrix: Matrix): string {
  const marks = row.cells.map((cell): Mark => cell?.verdict ?? "missing");
  const differs = new Set(marks).size > 1;
  const reasons = row.cells.map((cell) => cell?.reason ?? "").join(" ");
  const text = `${row.id} ${row.title} ${row.number ?? ""} ${reasons}`.toLowerCase();
  const cells = row.cells.map((cell, i) => bodyCell(cell, row, matrix.columns[i]?.name ?? ""));
  return `<tr data-text="${escapeHtml(text)}"${differs ? " data-differs" : ""}><th scope="row"><b>${escapeHtml(row.id)}</b><small>${escapeHtml(row.title)}</small></th>${cells.join("")}</tr>`;
}

function bodyCell(cell: Result | undefined, row: Row, column: string): string {
  const mark: Mark = cell?.verdict ?? "missing";
  const { sign, word } = MARKS[mark];
  const label = `${row.id} on ${column}: ${word}`;
  return `<td><button type="button" tabindex="-1" class="${mark}" aria-label="${escapeHtml(label)}" data-column="${escapeHtml(column)}" data-word="${word}" data-reason="${escapeHtml(cell?.reason ?? "")}">${sign}</button></td>`;
}

/** Lists the differences between each kernel and the next one. */
function changes(matrix: Matrix): string {
  const steps = matrix.columns.slice(1).map((column, i) => {
    const list = differences(matrix, i, i + 1).map(
      ({ id, before, after }) =>
        `<li><b>${escapeHtml(id)}</b>: ${MARKS[before].word} → ${MARKS[after].word}</li>`,
    );
    const from = escapeHtml(matrix.columns[i]?.name ?? "");
    const body = list.length === 0 ? "<p>nothing</p>" : `<ul>${list.join("")}</ul>`;
    return `<details${list.length > 0 ? " open" : ""}><summary>${from} → ${escapeHtml(column.name)}: ${list.length}</summary>${body}</details>`;
  });
  return steps.length === 0
    ? ""
    : `<section aria-label="Changes"><h2>What changes from kernel to kernel</h2>${steps.join("\n")}</section>`;
}

function escapeHtml(text: string): string {
  return printableLines(text)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
