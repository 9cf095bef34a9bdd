/**
 * A matrix as one self-contained HTML page: it works from file://, in light and dark mode, without a network. The page
 * contains the evidence of the claims that fail or deviate (evidence.ts), and the facts of the hosts.
 */
import { createHash } from "node:crypto";
import type { Evidence, HostFacts, TableDifferences } from "./evidence.ts";
import { PAGE_CSS, PAGE_JS } from "./generated/texts.ts";
import {
  type Column,
  differences,
  isGreenMatrix,
  type Matrix,
  type Row,
  troubles,
} from "./matrix.ts";
import { printableLines } from "./printable.ts";
import { count, type Result, type Verdict } from "./result.ts";
import { counted } from "./text.ts";

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

/** The maximum length of the reasons of a page together, in UTF-16 units; a page has each reason three times. */
const MOST_REASONS_OF_PAGE = 2 ** 23;
/** The maximum length of the calls, fields and C files of a page together, as HTML. */
const MOST_EVIDENCE_OF_PAGE = 2 ** 26;
const NO_ROOM = "The page has no room for it; the JSON report has it.";

/** Replaces the reasons that exceed {@link MOST_REASONS_OF_PAGE}, because V8 limits the length of a string. */
function withBoundedReasons(matrix: Matrix): Matrix {
  let room = MOST_REASONS_OF_PAGE;
  const bounded = (cell: Result | undefined): Result | undefined => {
    if (cell?.reason === undefined) return cell;
    if (cell.reason.length > room) return { ...cell, reason: NO_ROOM };
    room -= cell.reason.length;
    return cell;
  };
  return { ...matrix, rows: matrix.rows.map((row) => ({ ...row, cells: row.cells.map(bounded) })) };
}

/** Formats the HTML page of a matrix. `date` is printed unchanged. */
export function toHtml(received: Matrix, date: string): string {
  const matrix = withBoundedReasons(received);
  const verdict = isGreenMatrix(matrix) ? "No claim fails." : "Some claims fail.";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>KVM claims: ${counted(matrix.columns.length, "kernel")}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>KVM claims on ${counted(matrix.columns.length, "kernel")}</h1>
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
${matrix.rows.map((row, i) => bodyRow(row, i, matrix)).join("\n")}
</tbody>
</table>
</div>
<p class="legend">${(Object.keys(MARKS) as Mark[]).map((mark) => `<span class="${mark}">${MARKS[mark].sign}</span> ${MARKS[mark].word}`).join(" · ")}. Arrow keys move between cells; Enter opens one.</p>
</section>
${findings(matrix)}
${hosts(matrix)}
${changes(matrix)}
<dialog id="detail" aria-labelledby="detail-title"><h2 id="detail-title"></h2><p id="detail-claim"></p><p id="detail-verdict"></p><pre id="detail-reason"></pre><p><a id="detail-evidence" href="#findings">Calls and C file</a></p><button type="button" id="detail-close">Close</button></dialog>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function kernelCard(matrix: Matrix, position: number): string {
  const column = matrix.columns[position];
  const results = column?.report?.results ?? [];
  const counts = count(results);
  const failed = matrix.rows.flatMap(({ id, cells }, row) =>
    cells[position]?.verdict === "fail" ? [{ id, place: placeOf(row, position) }] : [],
  );
  const other = troubles(matrix, position);
  const fails = counts.fail === 0 ? "0 fail" : `<strong>${counts.fail} fail</strong>`;
  const lines = [
    ...(failed.length === 0
      ? []
      : [
          failed
            .map(({ id, place }) => `<a href="#${place}"><code>${escapeHtml(id)}</code></a>`)
            .join(", "),
        ]),
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

function bodyRow(row: Row, position: number, matrix: Matrix): string {
  const marks = row.cells.map((cell): Mark => cell?.verdict ?? "missing");
  const differs = new Set(marks).size > 1;
  const reasons = row.cells.map((cell) => cell?.reason ?? "").join(" ");
  const text = `${row.id} ${row.title} ${row.number ?? ""} ${reasons}`.toLowerCase();
  const cells = row.cells.map((cell, i) => {
    const place = isFinding(cell) ? placeOf(position, i) : undefined;
    return bodyCell(cell, row, matrix.columns[i]?.name ?? "", place);
  });
  return `<tr data-text="${escapeHtml(text)}"${differs ? " data-differs" : ""}><th scope="row"><b>${escapeHtml(row.id)}</b><small>${escapeHtml(row.title)}</small></th>${cells.join("")}</tr>`;
}

function bodyCell(
  cell: Result | undefined,
  row: Row,
  column: string,
  place: string | undefined,
): string {
  const mark: Mark = cell?.verdict ?? "missing";
  const { sign, word } = MARKS[mark];
  const label = `${row.id} on ${column}: ${word}`;
  return `<td><button type="button" tabindex="-1" class="${mark}" aria-label="${escapeHtml(label)}" data-column="${escapeHtml(column)}" data-word="${word}" data-reason="${escapeHtml(cell?.reason ?? "")}"${place === undefined ? "" : ` data-place="${place}"`}>${sign}</button></td>`;
}

/** Whether the page has a section for a result. */
function isFinding(cell: Result | undefined): cell is Result {
  return cell?.verdict === "fail" || cell?.verdict === "deviation";
}

/** Returns the id of the element that describes a result; positions are valid ids for any name of a claim. */
function placeOf(row: number, column: number): string {
  return `finding-${row}-${column}`;
}

/** The maximum number of failures that are initially open. */
const MOST_OPEN = 3;

/** Describes each result that fails or deviates: reason, differing fields, calls and C file. Failures are first. */
function findings(matrix: Matrix): string {
  const found = matrix.rows.flatMap((row, position) =>
    row.cells.flatMap((cell, i) =>
      isFinding(cell)
        ? [{ row, cell, place: placeOf(position, i), column: matrix.columns[i] }]
        : [],
    ),
  );
  const failed = found.filter(({ cell }) => cell.verdict === "fail");
  const known = found.filter(({ cell }) => cell.verdict === "deviation");
  const isOpen = failed.length <= MOST_OPEN;
  let room = MOST_EVIDENCE_OF_PAGE;
  const bounded = (text: string): string => {
    if (text.length > room) return `<p>Calls and C file: ${NO_ROOM}</p>`;
    room -= text.length;
    return text;
  };
  const list = [
    ...failed.map((one) => finding(one, isOpen, bounded)),
    ...known.map((one) => finding(one, false, bounded)),
  ];
  const none = list.length === 0 ? "<p>No claim fails or deviates.</p>" : "";
  return `<section aria-label="Failures and deviations" id="findings"><h2>Failures and deviations: ${list.length}</h2>
${none}${list.join("\n")}
<p class="legend">The page has no calls of claims that hold. The C file of any claim, here ID: <code>node-kvm test ID: --repro DIR --repro-all</code>, or for a kernel of the lab <code>node-kvm lab exec --kernel NAME --out /c:DIR -- node-kvm test ID: --repro /c --repro-all</code></p>
</section>`;
}

interface Finding {
  readonly row: Row;
  readonly cell: Result;
  readonly place: string;
  readonly column: Column | undefined;
}

/** Describes one result; `bounded` returns the HTML of its evidence, or a sentence if the page has no room for it. */
function finding(
  { row, cell, place, column }: Finding,
  isOpen: boolean,
  bounded: (text: string) => string,
): string {
  const { sign, word } = MARKS[cell.verdict];
  const reason = cell.reason === undefined ? "" : `<pre>${escapeHtml(cell.reason)}</pre>`;
  const head = `<span class="${cell.verdict}">${sign}</span> <b>${escapeHtml(row.id)}</b> on ${escapeHtml(column?.name ?? "")}: ${word}`;
  const body =
    cell.evidence === undefined
      ? "<p>The calls were not recorded.</p>"
      : bounded(evidence(cell.evidence));
  return `<details class="finding" id="${place}"${isOpen ? " open" : ""}><summary>${head}</summary><p>${escapeHtml(row.title)}</p>${reason}${body}</details>`;
}

function evidence({ calls, earlierCalls, tables, c, withoutC }: Evidence): string {
  const earlier = earlierCalls === 0 ? "" : `, after ${earlierCalls} earlier calls`;
  return [
    tables === undefined ? "" : tableFields(tables),
    `<h3>Calls: ${calls.length}${earlier}</h3><pre class="calls" tabindex="0" role="region" aria-label="Calls">${escapeHtml(calls.join("\n"))}</pre>`,
    c === undefined ? "" : cFile(c),
    withoutC === undefined ? "" : `<p>There is no C file: ${escapeHtml(withoutC)}</p>`,
  ].join("");
}

function tableFields({ before, after, fields, more }: TableDifferences): string {
  const [first, second] = [escapeHtml(before), escapeHtml(after)];
  if (fields.length === 0) return `<h3>CPUID tables: ${first} and ${second} are equal</h3>`;
  const rows = fields.map(
    (field) =>
      `<tr><th scope="row"><code>${escapeHtml(field.name)}</code></th><td>${escapeHtml(field.before)}</td><td>${escapeHtml(field.after)}</td></tr>`,
  );
  const rest = more === 0 ? "" : `<p>${more} more differences</p>`;
  return `<h3>CPUID fields that differ: ${fields.length + more}</h3><div class="bits" tabindex="0" role="region" aria-label="CPUID fields that differ"><table><thead><tr><th scope="col">Field</th><th scope="col">${first}</th><th scope="col">${second}</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>${rest}`;
}

function cFile(c: string): string {
  const size = `${Math.ceil(c.length / 1000)} kB`;
  return `<details class="c"><summary>C file, ${size}</summary><p><button type="button" class="copy">Copy</button> <code>cc -o reproducer reproducer.c &amp;&amp; ./reproducer</code></p><pre tabindex="0" role="region" aria-label="C file">${c.split("\t").map(escapeHtml).join("\t")}</pre></details>`;
}

/** Compares the facts of the hosts: kernels, CPUs, parameters of KVM's modules, and capabilities of /dev/kvm. */
function hosts({ columns }: Matrix): string {
  const known = columns.filter(({ report }) => report?.host !== undefined);
  if (known.length === 0) return "";
  const facts = known.map(factsOf);
  const names = new Set(facts.flatMap((each) => Array.from(each.keys())));
  const rows = Array.from(names, (name) => {
    const values = facts.map((each) => each.get(name) ?? "–");
    const differs = new Set(values).size > 1;
    const cells = values.map((value) => `<td>${escapeHtml(value)}</td>`);
    return `<tr${differs ? ' class="differs"' : ""}><th scope="row"><code>${escapeHtml(name)}</code></th>${cells.join("")}</tr>`;
  });
  const head = known.map(({ name }) => `<th scope="col">${escapeHtml(name)}</th>`).join("");
  return `<section aria-label="Hosts" id="hosts"><h2>Hosts</h2>
<details><summary>Kernel, CPU, parameters of KVM's modules, capabilities of /dev/kvm (facts that differ are bold)</summary>
<div class="facts" tabindex="0" role="region" aria-label="Facts of the hosts"><table><thead><tr><th scope="col">Fact</th>${head}</tr></thead><tbody>${rows.join("")}</tbody></table></div>
</details></section>`;
}

/** Lists the facts of one host by name. */
function factsOf({ report }: Column): ReadonlyMap<string, string> {
  const { cpu, parameters, capabilities }: HostFacts = report?.host ?? NO_FACTS;
  return new Map([
    ["kernel", report?.kernel ?? ""],
    ["vendor module", report?.vendor ?? ""],
    ["CPU", cpu],
    ...Object.entries(parameters),
    ...Object.entries(capabilities).map(
      ([name, value]) => [name, value === 0 ? "missing" : String(value)] as const,
    ),
  ]);
}

const NO_FACTS: HostFacts = { cpu: "", parameters: {}, capabilities: {} };

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
