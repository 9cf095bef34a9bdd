/**
 * The script of the matrix page: filter, arrow keys, the detail of a cell. The page is readable without it.
 *
 * biome-ignore-all lint/suspicious/noRedundantUseStrict: the page embeds it as a script, not as a module.
 * biome-ignore-all lint/style/useTemplate: the bytes of the page stay as they were before this was a file.
 * biome-ignore-all format: the bytes of the page stay as they were before this was a file.
 */
"use strict";
const rows = Array.from(document.querySelectorAll(".scroll tbody tr"));
const filter = document.getElementById("filter");
const differing = document.getElementById("differing");
function show() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
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
  current = document.querySelector(".scroll tbody tr:not([hidden]) button");
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
const claims = document.querySelector(".scroll tbody");
claims.addEventListener("keydown", (event) => {
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
claims.addEventListener("click", (event) => {
  const button = event.target.closest("td button");
  if (!button) return;
  go(button);
  const row = button.closest("tr");
  document.getElementById("detail-title").textContent = row.querySelector("b").textContent + " on " + button.dataset.column;
  document.getElementById("detail-claim").textContent = row.querySelector("small").textContent;
  document.getElementById("detail-verdict").textContent = button.textContent + " " + button.dataset.word;
  document.getElementById("detail-reason").textContent = button.dataset.reason;
  const link = document.getElementById("detail-evidence");
  link.hidden = button.dataset.place === undefined;
  link.href = "#" + (button.dataset.place ?? "findings");
  detail.showModal();
});
document.getElementById("detail-close").addEventListener("click", () => detail.close());
detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
// After a click on the link to the evidence, the evidence has the focus, and not the cell.
let leaving = false;
detail.addEventListener("close", () => {
  if (current && !leaving) current.focus();
  leaving = false;
});
document.getElementById("detail-evidence").addEventListener("click", () => {
  leaving = true;
  detail.close();
});
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target?.classList.contains("finding")) return;
  target.open = true;
  target.scrollIntoView();
  target.querySelector("summary").focus({ preventScroll: true });
}
// A link to the current target changes no hash, but still has to open the target.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link && link.hash === location.hash) openTarget();
});
window.addEventListener("hashchange", openTarget);
openTarget();
function copied(button, text) {
  button.textContent = text;
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}
async function copy(button) {
  const pre = button.closest("details").querySelector("pre");
  try {
    await navigator.clipboard.writeText(pre.textContent);
    copied(button, "Copied");
  } catch {
    // Without permission for the clipboard, the text is selected, so that the user can copy it.
    getSelection().selectAllChildren(pre);
    copied(button, "Selected");
  }
}
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
document.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("input", show);
differing.addEventListener("change", show);
enter();
