// The page "Index by errno": the tables of docs/errors.md by errno, with the causes that lib/explain distinguishes.
import { readFileSync } from "node:fs";
import { getSystemErrorMap } from "node:util";
import { rolldown } from "rolldown";
import { Converter } from "typedoc";
import { tagsOf } from "./ioctl-tag.js";
import { addPage } from "./names.js";

/** The kind of file descriptor whose ioctls are in the tables below a heading of docs/errors.md. */
const DESCRIPTORS = { "/dev/kvm": "sys", "A VM": "vm", "A vCPU": "vcpu", "A device": "dev" };

/** The kernel's names and texts of errnos; the last two are not in libuv's table. */
const MESSAGES = new Map([
  ...Array.from(getSystemErrorMap(), ([number, [name, text]]) => [name, [-number, text]]),
  ["EOPNOTSUPP", [95, "operation not supported"]],
  ["EHWPOISON", [133, "memory page has hardware error"]],
]);

/** Loads the rules of lib/explain as [call, errno, cause]. */
async function readRules() {
  const bundle = await rolldown({ input: "lib/explain/index.ts", platform: "node" });
  const { output } = await bundle.generate({ codeSplitting: false });
  const code = Buffer.from(output[0].code).toString("base64");
  const { everyRule } = await import(`data:text/javascript;base64,${code}`);
  return everyRule();
}

/**
 * Reads the tables of calls in docs/errors.md, which have a row for each call and errno. "as above" repeats the
 * previous text.
 */
function readRows() {
  let above = "";
  const [, ...sections] = readFileSync("docs/errors.md", "utf8").split("\n### ");
  return sections.flatMap((section) => {
    const [heading] = section.split("\n");
    return section
      .split("\n")
      .filter((line) => line.startsWith("| `"))
      .map((line) =>
        line
          .replace(/^\| | \|$/g, "")
          .split(" | ")
          .map((cell) => cell.trim()),
      )
      .map(([call, errnos, when]) => {
        if (when !== "as above") above = when;
        return [call, errnos, above];
      })
      .flatMap(([call, errnos, when]) =>
        Array.from(errnos.matchAll(/`(E[A-Z0-9]+)`/g), ([, errno]) => ({
          call: call.replaceAll("`", ""),
          fd: DESCRIPTORS[heading],
          errno,
          when,
        })),
      );
  });
}

/** Adds the page "Index by errno" to the site. @param {import("typedoc").Application} application */
export async function errnoPage(application) {
  const [rows, rules] = [readRows(), await readRules()];
  const errnos = [
    ...new Set([...rows, ...rules.map(([, errno]) => ({ errno }))].map((row) => row.errno)),
  ];

  /** Returns the causes for a call, and the causes for any call. */
  const causesOf = (call, errno) =>
    rules.filter((rule) => rule[0] === call && rule[1] === errno).map(([, , cause]) => cause);

  application.converter.on(
    Converter.EVENT_RESOLVE_BEGIN,
    ({ project }) => {
      const tags = tagsOf(project);
      const nameOf = ({ call, fd }) => {
        const found = tags.find((tag) => tag.ioctl === call && tag.fd === fd);
        if (found === undefined) return [`\`${call}\``];
        return [
          `\`${call}\`: `,
          { text: `${found.method.parent.name}.${found.method.name}`, target: found.method },
        ];
      };
      const sectionOf = (errno) => {
        const [number, text] = MESSAGES.get(errno) ?? [];
        if (number === undefined) throw new Error(`${errno}: unknown errno`);
        const general = causesOf("any call", errno);
        return [
          `\n## ${errno}\n\n${number}: ${text}.`,
          general.length === 0 ? "" : ` Causes of any call: ${general.join("; ")}.`,
          "\n\n| call | when | distinguished causes |\n| --- | --- | --- |\n",
          ...rows
            .filter((row) => row.errno === errno)
            .flatMap((row) => [
              "| ",
              ...nameOf(row),
              ` | ${row.when} | ${causesOf(row.call, errno).join("; ")} |\n`,
            ]),
        ];
      };
      addPage(project, "Index by errno", [
        "The errnos of the calls that this package makes, and when the kernel returns them. The last column names the ",
        "causes that `error.reason` distinguishes; a cause is stated as a fact only if the evidence proves it. Other ",
        "errnos are reported as well, without a reason. ",
        { text: "Errors", target: project.documents.find(({ name }) => name === "Errors") },
        " explains the classes of errors, and the codes of the package itself, which start with `ERR_`.\n",
        ...errnos.toSorted((a, b) => a.localeCompare(b)).flatMap(sectionOf),
      ]);
    },
    -100,
  );
}
