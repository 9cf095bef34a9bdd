/** The views of the page: decoded fields, faults, differences, portability, a baseline, formats, KVM's changes. */
import type {
  DocumentView,
  EntryView,
  FieldView,
  Lines,
  Offer,
  TableLabel,
  TableRef,
} from "../protocol.ts";
import { matchesField } from "../words.ts";
import type { Engine } from "./client.ts";
import { button, type Child, choice, make } from "./elements.ts";

/** The data and functions that a view uses. */
export interface Room {
  readonly engine: Engine;
  readonly offer: Offer;
  /** All tables; the list is not empty. */
  readonly tables: readonly TableLabel[];
  readonly panel: HTMLElement;
  readonly announce: (text: string) => void;
  /** Shows a line of a document. */
  readonly source: (document: number, line: number) => void;
  /** Adds a document that the engine made. */
  readonly added: (one: DocumentView) => void;
}

/** A function that shows a view in the panel. */
export interface View {
  readonly name: string;
  readonly title: string;
  readonly show: (room: Room) => Promise<void>;
}

/** The choices of the user in each view, which stay stored while another view is shown. */
const chosen = new Map<string, string>();

const keyOf = ({ document, table }: TableRef): string => `${document}.${table}`;

function pick(room: Room, name: string, position: number): TableLabel {
  const key = chosen.get(name);
  const { tables } = room;
  const found =
    tables.find(({ ref }) => keyOf(ref) === key) ?? tables[Math.min(position, tables.length - 1)];
  if (found === undefined) throw new Error("there is no table");
  return found;
}

/** Makes a list for choosing a table; a change redraws the view. */
function tableChoice(
  room: Room,
  view: View,
  label: string,
  position = 0,
): { readonly picker: HTMLElement; readonly table: TableLabel } {
  const name = `table ${position}`;
  const table = pick(room, name, position);
  const picker = choice(
    label,
    room.tables.map((one) => [keyOf(one.ref), one.label]),
    keyOf(table.ref),
    (value) => {
      chosen.set(name, value);
      again(room, view);
    },
  );
  return { picker, table };
}

function again(room: Room, view: View): void {
  view.show(room).catch((cause: unknown) => {
    room.announce(cause instanceof Error ? cause.message : String(cause));
  });
}

function fill(room: Room, controls: readonly Child[], ...rest: readonly Child[]): void {
  room.panel.replaceChildren(make("div", { class: "row" }, ...controls), ...rest);
}

/** Makes the list of a result's lines. */
function linesOf(
  room: Room,
  document: number | undefined,
  { title, lines, folded }: Lines,
): HTMLElement {
  return make(
    "div",
    {},
    make("p", { class: "soft", "data-title": true }, title),
    listOf(room, document, lines),
    ...(folded === undefined || folded.lines.length === 0
      ? []
      : [
          make(
            "details",
            {},
            make("summary", {}, folded.title),
            listOf(room, document, folded.lines),
          ),
        ]),
  );
}

function listOf(room: Room, document: number | undefined, lines: Lines["lines"]): HTMLUListElement {
  const items = lines.map(({ kind, tone, where, text, more, line }) =>
    make(
      "li",
      { class: tone },
      make("span", { class: "kind" }, kind),
      ...(where === "" ? [] : [make("code", {}, where), " "]),
      text,
      ...(line > 0 && document !== undefined
        ? [" ", button(`line ${line}`, () => room.source(document, line))]
        : []),
      ...(more === "" ? [] : [make("span", { class: "more" }, more)]),
    ),
  );
  return make("ul", { class: "lines" }, ...items);
}

function fieldItem({ name, aliases, bits, value, meaning, description, isSet }: FieldView): Child {
  const title = [description, ...(aliases.length > 0 ? [`also: ${aliases.join(", ")}`] : [])];
  return make(
    "li",
    { class: isSet ? "set" : "unset", title: title.join("; ") },
    make("b", {}, name),
    ` ${bits} = ${value}${meaning === "" ? "" : ` (${meaning})`}`,
    make("span", { class: "more" }, description),
  );
}

function entrySection(
  room: Room,
  document: number,
  { leaf, flags, line, registers }: EntryView,
  isShown: (field: FieldView) => boolean,
  withUnnamed: boolean,
): HTMLElement | undefined {
  const parts = registers.flatMap(({ name, value, fields, unnamed }) => {
    const shown = fields.filter(isShown);
    const rest = withUnnamed && unnamed !== "" ? `, reserved ${unnamed}` : "";
    if (shown.length === 0 && rest === "") return [];
    return [
      make("p", { class: "register" }, `${name} ${value}${rest}`),
      make("ul", { class: "fields" }, ...shown.map(fieldItem)),
    ];
  });
  if (parts.length === 0 && !withUnnamed) return undefined;
  const at = line > 0 ? [" ", button(`line ${line}`, () => room.source(document, line))] : [];
  return make("div", {}, make("h3", {}, `${leaf} flags ${flags}`, ...at), ...parts);
}

const decode: View = {
  name: "decode",
  title: "Fields",
  async show(room) {
    const { picker, table } = tableChoice(room, decode, "Table");
    const entries = await room.engine({ op: "decode", table: table.ref });
    const search = make("input", {
      type: "search",
      autocomplete: "off",
      value: chosen.get("search") ?? "",
    });
    const unset = make("input", { type: "checkbox" });
    const result = make("div", { id: "decoded" });
    const refresh = (): void => {
      const wanted = search.value.trim().toLowerCase();
      chosen.set("search", search.value);
      const isShown = (field: FieldView): boolean =>
        (wanted !== "" || unset.checked || field.isSet) &&
        (wanted === "" || matchesField(field, wanted));
      const sections = entries
        .map((one) => entrySection(room, table.ref.document, one, isShown, wanted === ""))
        .filter((one) => one !== undefined);
      const none = `no field of this table has ${wanted} in its names, its place or its description`;
      result.replaceChildren(...(sections.length > 0 ? sections : [make("p", {}, none)]));
    };
    search.addEventListener("input", refresh);
    unset.addEventListener("change", refresh);
    fill(
      room,
      [
        picker,
        make("label", {}, "Search by name or place ", search),
        make("label", {}, unset, " fields that are 0"),
      ],
      result,
    );
    refresh();
  },
};

const lint: View = {
  name: "lint",
  title: "Faults",
  async show(room) {
    const { picker, table } = tableChoice(room, lint, "Table");
    const profile = chosen.get("profile") ?? room.offer.profiles[0]?.name ?? "";
    const profiles = choice(
      "Rules for",
      room.offer.profiles.map(({ name, title }) => [name, title]),
      profile,
      (value) => {
        chosen.set("profile", value);
        again(room, lint);
      },
    );
    const lines = await room.engine({ op: "lint", table: table.ref, profile });
    fill(room, [picker, profiles], linesOf(room, table.ref.document, lines));
  },
};

const ADD_ANOTHER = "Add a second table to compare them.";

const diff: View = {
  name: "diff",
  title: "Differences",
  async show(room) {
    if (room.tables.length < 2) return fill(room, [], ADD_ANOTHER);
    const before = tableChoice(room, diff, "From");
    const after = tableChoice(room, diff, "To", 1);
    const lines = await room.engine({
      op: "diff",
      before: before.table.ref,
      after: after.table.ref,
    });
    fill(room, [before.picker, after.picker], linesOf(room, undefined, lines));
  },
};

const portable: View = {
  name: "portable",
  title: "Portability",
  async show(room) {
    if (room.tables.length < 2) return fill(room, [], ADD_ANOTHER);
    const from = tableChoice(room, portable, "A guest started with");
    const to = tableChoice(room, portable, "continues on", 1);
    const tsc = chosen.get("tsc") ?? room.offer.tsc[0]?.name ?? "";
    const frequencies = choice(
      room.offer.tscLabel,
      room.offer.tsc.map(({ name, title }) => [name, title]),
      tsc,
      (value) => {
        chosen.set("tsc", value);
        again(room, portable);
      },
    );
    const lines = await room.engine({
      op: "portable",
      from: from.table.ref,
      to: to.table.ref,
      tsc,
    });
    fill(room, [from.picker, to.picker, frequencies], linesOf(room, undefined, lines));
  },
};

const baseline: View = {
  name: "baseline",
  title: "Baseline",
  async show(room) {
    const boxes = room.tables.map(({ ref, label }) => {
      const box = make("input", { type: "checkbox", checked: true });
      return { ref, box, item: make("label", {}, box, ` ${label}`) };
    });
    const result = make("div", { id: "baseline" });
    const compute = button("Compute the baseline", () => {
      const refs = boxes.filter(({ box }) => box.checked).map(({ ref }) => ref);
      room
        .engine({ op: "baseline", tables: refs })
        .then(({ added, ...lines }) => {
          result.replaceChildren(linesOf(room, undefined, lines));
          if (added === undefined) return;
          result.append(button("Add it to the tables", () => room.added(added)));
        })
        .catch((cause: unknown) =>
          result.replaceChildren(cause instanceof Error ? cause.message : String(cause)),
        );
    });
    fill(room, [...boxes.map(({ item }) => item), compute], result);
    return Promise.resolve();
  },
};

function save(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  const anchor = make("a", { href: url, download: name });
  anchor.click();
  URL.revokeObjectURL(url);
}

const convert: View = {
  name: "convert",
  title: "Formats",
  async show(room) {
    const { picker, table } = tableChoice(room, convert, "Table");
    const format = chosen.get("format") ?? room.offer.formats[0]?.name ?? "";
    const formats = choice(
      "Format",
      room.offer.formats.map(({ name, title, isLossless }) => [
        name,
        isLossless ? title : `${title} (loses a part)`,
      ]),
      format,
      (value) => {
        chosen.set("format", value);
        again(room, convert);
      },
    );
    const { text, isBinary, notes } = await room.engine({
      op: "convert",
      tables: [table.ref],
      format,
    });
    const link = await room.engine({ op: "link", table: table.ref });
    const address = `${location.href.replace(/#.*/, "")}#table=${link}`;
    const copy = button("Copy", () => {
      navigator.clipboard.writeText(text).then(
        () => room.announce("copied"),
        () => room.announce("the browser refuses to copy; select the text"),
      );
    });
    fill(
      room,
      [
        picker,
        formats,
        copy,
        button("Save", () => save(`cpuid.${format}`, text)),
        make("a", { href: address, id: "link" }, "link with this table"),
      ],
      ...notes.map((note) => make("p", { class: "soft" }, note)),
      ...(isBinary ? [make("p", { class: "soft" }, "The bytes are shown in hexadecimal.")] : []),
      make("pre", { id: "converted", tabindex: "0" }, text),
    );
  },
};

const kvm: View = {
  name: "kvm",
  title: "Under KVM",
  async show(room) {
    const { picker, table } = tableChoice(room, kvm, "Table");
    const lines = await room.engine({ op: "kvm", table: table.ref });
    fill(room, [picker], linesOf(room, table.ref.document, lines));
  },
};

/** All views, in the order of their tabs. */
export const VIEWS: readonly View[] = [decode, lint, diff, portable, baseline, convert, kvm];
