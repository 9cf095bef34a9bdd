/**
 * The page: the user adds documents on the left, and the right side shows views of them. views.ts contains the views.
 */
import type { DocumentView, Offer, TableLabel } from "../protocol.ts";
import { counted } from "../words.ts";
import { type Engine, startEngine } from "./client.ts";
import { button, byId, make } from "./elements.ts";
import { openSource } from "./source.ts";
import { VIEWS, type View } from "./views.ts";

/** The maximum length of a text that is shown in the text box, because a longer text makes the browser slow. */
const SHOWN_TEXT = 100_000;
/** The maximum size of a file that is read. The limit of the engine is lower. */
const LARGEST_FILE = 64 * 2 ** 20;

const status = byId("status", HTMLOutputElement);
const paste = byId("paste", HTMLTextAreaElement);
const list = byId("documents", HTMLUListElement);
const use = byId("use", HTMLElement);
const tabs = byId("tabs", HTMLDivElement);
const panel = byId("panel", HTMLDivElement);

const documents: DocumentView[] = [];
let view: View | undefined;

const announce = (text: string): void => {
  status.textContent = text;
};

const messageOf = (cause: unknown): string =>
  cause instanceof Error ? cause.message : String(cause);

/** Runs a function of the page, and shows the message of a failure in the status line. */
function run(part: () => Promise<void>): void {
  part().catch((cause: unknown) => announce(messageOf(cause)));
}

function tables(): readonly TableLabel[] {
  return documents.flatMap((one) => one.tables);
}

function showDocuments(engine: Engine): void {
  list.replaceChildren(...documents.map((one) => documentItem(engine, one)));
  use.hidden = tables().length === 0;
}

const MOST_PROBLEMS = 20;
const NO_TABLE =
  "This document changes tables, but it is not a table. At the command line, --mask applies a mask, and a list of features becomes a table.";
/** The number of a document's items that are shown at once; further items are shown on request. */
const MOST_ITEMS = 4;

/** Puts items under a heading that expands and collapses them. */
function folded(items: readonly HTMLLIElement[], what: string): readonly HTMLLIElement[] {
  if (items.length <= MOST_ITEMS) return items;
  const title = make("summary", {}, `${items.length} ${what}`);
  return [make("li", {}, make("details", {}, title, make("ul", {}, ...items)))];
}

function documentItem(engine: Engine, one: DocumentView): HTMLLIElement {
  const problems = one.problems.slice(0, MOST_PROBLEMS).map(({ line, column, message }) => {
    const at = button(`line ${line}, column ${column}`, () =>
      run(() => openSource(engine, one, line)),
    );
    return make("li", { class: "bad" }, ...(line > 0 ? [at] : []), ` ${message}`);
  });
  const rest = one.problems.length - problems.length;
  return make(
    "li",
    {},
    make("b", {}, one.name),
    ` ${one.tables.length === 0 && one.problems.length > 0 ? "not read" : one.format}`,
    make(
      "ul",
      {},
      ...folded(
        one.tables.map(({ label, summary, entries }) =>
          make("li", {}, `${label}: ${entries} entries${summary === "" ? "" : `, ${summary}`}`),
        ),
        "tables",
      ),
      ...folded(
        one.text.map((line) => make("li", {}, line)),
        "changes",
      ),
      ...(one.kind === "tables" ? [] : [make("li", { class: "soft" }, NO_TABLE)]),
      ...one.notes.map((note) => make("li", { class: "soft" }, note)),
      ...problems,
      ...(rest > 0 ? [make("li", { class: "soft" }, counted(rest, "more fault"))] : []),
    ),
    make(
      "div",
      { class: "row" },
      button("Show the text", () => run(() => openSource(engine, one, 1))),
      button(`Remove ${one.name}`, () =>
        run(async () => {
          await engine({ op: "remove", document: one.document });
          documents.splice(documents.indexOf(one), 1);
          showDocuments(engine);
          showView(engine);
        }),
      ),
    ),
  );
}

let offered: Offer = { reads: [], formats: [], profiles: [], tsc: [], tscLabel: "" };

function showView(engine: Engine): void {
  const all = tables();
  if (view === undefined || all.length === 0) {
    panel.replaceChildren();
    return;
  }
  for (const tab of tabs.children) {
    const isChosen = tab.id === `tab-${view.name}`;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.setAttribute("tabindex", isChosen ? "0" : "-1");
  }
  panel.setAttribute("aria-labelledby", `tab-${view.name}`);
  const shown = view;
  run(() =>
    shown.show({
      engine,
      offer: offered,
      tables: all,
      panel,
      announce,
      source: (document, line) => {
        const one = documents.find((candidate) => candidate.document === document);
        if (one !== undefined) run(() => openSource(engine, one, line));
      },
      added: (one) => accept(engine, one),
    }),
  );
}

function makeTabs(engine: Engine): void {
  tabs.replaceChildren(
    ...VIEWS.map((one) => {
      const tab = make(
        "button",
        { type: "button", role: "tab", id: `tab-${one.name}`, "aria-controls": "panel" },
        one.title,
      );
      tab.addEventListener("click", () => {
        view = one;
        showView(engine);
      });
      return tab;
    }),
  );
  tabs.addEventListener("keydown", (event) => {
    const all = [...tabs.querySelectorAll("button")];
    const now = all.findIndex((tab) => tab.matches(":focus"));
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next =
      event.key === "Home"
        ? 0
        : event.key === "End"
          ? all.length - 1
          : step === undefined
            ? -1
            : (now + step + all.length) % all.length;
    const target = all[next];
    if (target === undefined) return;
    event.preventDefault();
    target.focus();
    target.click();
  });
}

/** Adds a document of the engine to the list. */
function accept(engine: Engine, one: DocumentView): void {
  documents.push(one);
  const faults = one.problems.length;
  const found = one.tables.length === 1 ? "1 table" : `${one.tables.length} tables`;
  announce(
    `${one.name}: ${one.format}, ${found}${faults === 0 ? "" : `, ${counted(faults, "fault")}`}`,
  );
  view ??= VIEWS[0];
  showDocuments(engine);
  showView(engine);
  // On a narrow screen, the page scrolls to the views, which are below the list.
  if (one.tables.length > 0 && matchMedia("(max-width: 1099px)").matches) use.scrollIntoView();
}

let pasted = 0;

async function add(engine: Engine, name: string, bytes: Uint8Array): Promise<void> {
  announce(`reading ${name}, ${bytes.length} bytes`);
  accept(engine, await engine({ op: "add", name, bytes }));
}

function addText(engine: Engine, text: string): void {
  if (text.trim() === "") {
    announce("there is no text");
    return;
  }
  pasted += 1;
  const name = `text ${pasted}`;
  run(() => add(engine, name, new TextEncoder().encode(text)));
}

function addFiles(engine: Engine, files: Iterable<File>): void {
  for (const file of files) {
    run(async () => {
      if (file.size > LARGEST_FILE) throw new Error(`${file.name} has more than 64 MiB`);
      await add(engine, file.name, new Uint8Array(await file.arrayBuffer()));
    });
  }
}

function listen(engine: Engine): void {
  const form = byId("add", HTMLFormElement);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    addText(engine, paste.value);
    paste.value = "";
  });
  paste.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (text.length <= SHOWN_TEXT) return;
    event.preventDefault();
    addText(engine, text);
  });
  const files = byId("files", HTMLInputElement);
  files.addEventListener("change", () => {
    addFiles(engine, [...(files.files ?? [])]);
    files.value = "";
  });
  const [target] = document.getElementsByClassName("add");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    target?.classList.add("over");
  });
  document.addEventListener("dragleave", () => target?.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    target?.classList.remove("over");
    addFiles(engine, [...(event.dataTransfer?.files ?? [])]);
  });
}

/** Reads the table in the fragment of the page's address; a view creates such addresses. */
async function addFragment(engine: Engine): Promise<void> {
  const [, packed] = /^#table=([\w-]+)$/.exec(location.hash) ?? [];
  if (packed === undefined) return;
  let binary: string;
  try {
    binary = atob(packed.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    throw new Error("the link has no valid table");
  }
  await add(
    engine,
    "table of the link",
    Uint8Array.from(binary, (letter) => letter.charCodeAt(0)),
  );
}

run(async () => {
  const { engine, offer } = await startEngine(byId("engine", HTMLScriptElement).text);
  offered = offer;
  byId("formats", HTMLUListElement).replaceChildren(
    ...offer.reads.map((one) => make("li", {}, one)),
  );
  makeTabs(engine);
  listen(engine);
  document.documentElement.dataset["ready"] = "true";
  await addFragment(engine);
  addEventListener("hashchange", () => run(() => addFragment(engine)));
});
