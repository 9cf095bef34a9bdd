// Sets the names in the site.
// A module has the name that a program imports, and a document has the name of its first heading.
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { Comment, Converter, DocumentReflection, ReflectionKind } from "typedoc";

/** Returns the first comment of a file, which describes an entry. @param {string} file */
function descriptionOf(file) {
  const [, text = ""] = /^\/\*\*([\s\S]*?)\*\//.exec(readFileSync(file, "utf8")) ?? [];
  const lines = text.split("\n").map((line) => line.replace(/^ \* ?/, "").trim());
  return lines.join("\n").trim();
}

/** Names each module after its entry in package.json, and describes it. @param {import("typedoc").Application} application @param {Record<string, string>} entries */
export function nameModules(application, entries) {
  const names = new Map(Object.entries(entries).map(([name, file]) => [file, name]));
  application.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const module of project.getReflectionsByKind(ReflectionKind.Module)) {
      const file = relative(process.cwd(), module.sources?.[0]?.fullFileName ?? "");
      const name = names.get(file);
      if (name === undefined)
        throw new Error(`${module.name}: ${file} is not an entry of package.json`);
      module.name = name;
      module.comment = new Comment([{ kind: "text", text: descriptionOf(file) }]);
    }
  });
}

/** Names each document after its first heading. @param {import("typedoc").Application} application */
export function titleDocuments(application) {
  application.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, document) => {
    // TypeDoc stores a heading in pieces, and code in a heading is a separate piece.
    const text = document.content.map((part) => part.text).join("");
    const title = /^# (.*)\n/.exec(text)?.[1];
    if (title === undefined) throw new Error(`${document.name}: the document has no title`);
    document.name = title.replaceAll("`", "");
  });
}

/**
 * Resolves links from one entry to a name that another entry exports: `{@link KvmError}` in node-kvm/worker.
 *
 * @param {import("typedoc").Application} application
 */
export function linkAcrossEntries(application) {
  application.converter.addUnknownSymbolResolver((reference, from, part) => {
    const path = reference.symbolReference?.path?.map((name) => name.path) ?? [];
    if (part === undefined || path.length === 0) return undefined;
    const found = from.project.children?.map((module) => module.getChildByName(path));
    const target = found?.find((reflection) => reflection !== undefined);
    return target && { target, caption: path.join(".") };
  });
}

const before = "Architecture";

/**
 * Adds a generated page before the page "Architecture".
 *
 * @param {import("typedoc").ProjectReflection} project
 * @param {string} title
 * @param {(string | { text: string, target: import("typedoc").Reflection })[]} parts Markdown, and links into the site.
 */
export function addPage(project, title, parts) {
  const content = [`# ${title}\n\n`, ...parts].map((part) =>
    typeof part === "string"
      ? { kind: "text", text: part }
      : { kind: "inline-tag", tag: "@link", ...part },
  );
  const page = new DocumentReflection(title, project, content, {});
  project.addChild(page);
  project.registerReflection(page, undefined, undefined);
  // The page is moved, because TypeDoc adds a child at the end, after the modules.
  for (const list of [project.documents, project.childrenIncludingDocuments]) {
    const [last] = list.splice(-1);
    list.splice(
      list.findIndex(({ name }) => name === before),
      0,
      last,
    );
  }
}
