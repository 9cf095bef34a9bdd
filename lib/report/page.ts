/** Looks and behaviour of the matrix page: the style and the script that html.ts puts into it. */

/** Colours follow the system; widths from 400 pixels up. The table scrolls, the page never does. */
export const PAGE_STYLE: string = `
:root { color-scheme: light dark; --back: #fdfdfc; --text: #1d2125; --soft: #5b646d; --line: #d9dde1;
  --card: #fff; --good: #1a7f37; --good-back: #e3f4e6; --bad: #b42318; --bad-back: #fde4e1;
  --known: #8a5a00; --known-back: #fdf0d0; --quiet-back: #eef0f2; --focus: #0b62d6; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --text: #e6e8ea; --soft: #9aa4ad; --line: #343a40;
  --card: #1b1f23; --good: #6fd487; --good-back: #16321d; --bad: #ff9b8f; --bad-back: #4a1a15;
  --known: #f0c260; --known-back: #3b2d0c; --quiet-back: #262b30; --focus: #7fb2ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 1500px; font: 15px/1.45 system-ui, sans-serif; background: var(--back); color: var(--text); }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1rem; margin: 0; } header p { margin: .2rem 0 1rem; color: var(--soft); }
.kernels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); gap: .6rem; align-items: start; list-style: none; margin: 0 0 1rem; padding: 0; }
.kernels > li { padding: .6rem .8rem; border: 1px solid var(--line); border-left: .4rem solid var(--good); border-radius: .4rem; background: var(--card); overflow-wrap: anywhere; }
.kernels > li.broken { border-left-color: var(--bad); background: var(--bad-back); }
.kernels p { margin: .2rem 0; font-size: .85rem; color: var(--soft); } .kernels strong, .kernels li li { color: var(--bad); } .kernels code { font-size: .8rem; }
.kernels ul { margin: .3rem 0 0; padding-left: 1.1rem; font-size: .85rem; }
.filter { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: center; margin: 0 0 .6rem; }
.filter input[type=search] { font: inherit; padding: .3rem .5rem; width: 15rem; max-width: 60vw; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: .3rem; }
output { color: var(--soft); }
.scroll { overflow: auto; max-height: 75vh; border: 1px solid var(--line); border-radius: .4rem; background: var(--card); }
table { border-collapse: separate; border-spacing: 0; width: 100%; }
th, td { border-bottom: 1px solid var(--line); } thead th { position: sticky; top: 0; background: var(--card); z-index: 2; padding: .4rem .3rem; font-size: .8rem; vertical-align: bottom; }
thead th:first-child { left: 0; z-index: 3; text-align: left; padding-left: .6rem; }
thead th span { display: inline-block; min-width: 4.5rem; }
tbody th { position: sticky; left: 0; z-index: 1; background: var(--card); text-align: left; font-weight: 400; padding: .25rem .6rem; }
tbody th b { display: block; font: 600 .82rem ui-monospace, monospace; overflow-wrap: anywhere; } tbody th small { color: var(--soft); }
td { text-align: center; padding: .15rem .2rem; }
td button, .legend span { display: inline-block; min-width: 2.1rem; padding: .2rem .3rem; border: 0; border-radius: .3rem; font: 600 .95rem/1.2 system-ui, sans-serif; text-align: center; }
td button { cursor: pointer; }
.pass { color: var(--good); background: var(--good-back); } .fail, .missing { color: var(--bad); background: var(--bad-back); outline: 1px solid var(--bad); }
.deviation { color: var(--known); background: var(--known-back); } .skip { color: var(--soft); background: var(--quiet-back); }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 1px; }
.legend { color: var(--soft); font-size: .85rem; } details { margin: .3rem 0; } summary { cursor: pointer; }
dialog { max-width: min(46rem, 92vw); border: 1px solid var(--line); border-radius: .5rem; background: var(--card); color: inherit; }
dialog::backdrop { background: #0008; } dialog pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; } dialog pre:empty { display: none; }
dialog button { font: inherit; padding: .3rem .9rem; }
@media (max-width: 600px) { body { padding: .6rem; } tbody th { min-width: 9.5rem; max-width: 9.5rem; } tbody th small { display: none; } thead th span { min-width: 0; writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; font-size: .72rem; } td button { min-width: 1.8rem; } }
`;

/** Filtering, moving by arrow keys, and the detail of a cell. The page is readable without it. */
export const PAGE_SCRIPT: string = `
"use strict";
const rows = Array.from(document.querySelectorAll("tbody tr"));
const filter = document.getElementById("filter");
const differing = document.getElementById("differing");
function show() {
  const words = filter.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const hit = words.every((word) => row.dataset.text.includes(word));
    row.hidden = !hit || (differing.checked && row.dataset.differs === undefined);
    shown += row.hidden ? 0 : 1;
  }
  document.getElementById("shown").textContent = shown === rows.length ? shown + " claims" : shown + " of " + rows.length + " claims";
  enter();
}
let current = null;
function enter() {
  if (current) current.tabIndex = -1;
  current = document.querySelector("tbody tr:not([hidden]) button");
  if (current) current.tabIndex = 0;
}
function go(button) {
  if (!button) return;
  if (current) current.tabIndex = -1;
  current = button;
  current.tabIndex = 0;
  current.focus();
  current.scrollIntoView({ block: "nearest", inline: "nearest" });
}
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
document.querySelector("tbody").addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  const button = event.target.closest("td button");
  if (!step || !button) return;
  event.preventDefault();
  const visible = rows.filter((row) => !row.hidden);
  const row = button.closest("tr");
  const column = Array.from(row.querySelectorAll("td button")).indexOf(button) + step[1];
  const next = visible[visible.indexOf(row) + step[0]];
  if (next) go(next.querySelectorAll("td button")[column]);
});
const detail = document.getElementById("detail");
document.querySelector("tbody").addEventListener("click", (event) => {
  const button = event.target.closest("td button");
  if (!button) return;
  go(button);
  const row = button.closest("tr");
  document.getElementById("detail-title").textContent = row.querySelector("b").textContent + " on " + button.dataset.column;
  document.getElementById("detail-claim").textContent = row.querySelector("small").textContent;
  document.getElementById("detail-verdict").textContent = button.textContent + " " + button.dataset.word;
  document.getElementById("detail-reason").textContent = button.dataset.reason;
  detail.showModal();
});
document.getElementById("detail-close").addEventListener("click", () => detail.close());
detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
detail.addEventListener("close", () => { if (current) current.focus(); });
document.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("input", show);
differing.addEventListener("change", show);
enter();
`;
