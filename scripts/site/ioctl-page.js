// Makes the page "Index by ioctl" from gen/facts/kvm-ioctls.tsv and from the docstrings with the ioctl's tag.
import { readFileSync } from "node:fs";
import { Converter } from "typedoc";
import { sectionOf, tagsOf } from "./ioctl-tag.js";
import { addPage } from "./names.js";

/** The headings, in the order of the page, by the descriptor's name in the table. */
const DESCRIPTORS = { sys: "`/dev/kvm`", vm: "A VM", vcpu: "A vCPU", dev: "A device" };

const SINCE = { 6.1: "6.1 or older", 6.12: "between 6.1 and 6.12", 7.2: "between 6.12 and 7.2" };

/** Reads the rows of kvm-ioctls.tsv; there is one row for each ioctl and descriptor. */
function readRows() {
  const [, ...lines] = readFileSync("gen/facts/kvm-ioctls.tsv", "utf8").trimEnd().split("\n");
  return lines.map((line) => {
    const [ioctl, fd, , , section, , since] = line.split("\t");
    return { ioctl, fd, section: section === "-" ? undefined : section, since };
  });
}

/**
 * Returns the cells of a row; throws if no docstring has a tag for the ioctl of the row, or if the tag names another
 * section of the manual.
 */
function cellsOf({ ioctl, fd, section, since }, tags) {
  const own = tags.filter((tag) => tag.ioctl === ioctl && tag.fd === fd);
  if (own.length === 0) throw new Error(`${ioctl} (${fd}): no method has its @ioctl tag`);
  const other = own.find((tag) => tag.section !== section);
  if (other)
    throw new Error(`${ioctl} (${fd}): the tag has section ${other.section}, not ${section}`);
  const methods = new Map(
    own.map(({ method }) => [`${method.parent.name}.${method.name}`, method]),
  );
  const links = Array.from(methods).flatMap(([text, target], i) => [
    i === 0 ? "" : ", ",
    { text, target },
  ]);
  const manual = section === undefined ? "none" : `[${section}](${sectionOf(ioctl)})`;
  const capability = own.map((tag) => tag.capability).find((name) => name !== undefined);
  return [
    `| \`${ioctl}\` | `,
    ...links,
    ` | ${capability === undefined ? "" : `\`${capability}\``} | ${manual} | ${SINCE[since]} |\n`,
  ];
}

/** Adds the page "Index by ioctl" to the site. @param {import("typedoc").Application} application */
export function ioctlPage(application) {
  application.converter.on(
    Converter.EVENT_RESOLVE_BEGIN,
    ({ project }) => {
      const [tags, rows] = [tagsOf(project), readRows()];
      addPage(project, "Index by ioctl", [
        `The ${rows.length} pairs of an ioctl and a descriptor of x86 KVM in Linux 7.2, and the methods that make them. `,
        "A section is a section of the kernel's `api.rst`; some ioctls have none. A capability is what ",
        "`checkExtension()` must report; without one, each KVM has the ioctl. The last column is the first of ",
        "Linux 6.1, 6.12 and 7.2 that has the ioctl.\n",
        ...Object.entries(DESCRIPTORS).flatMap(([fd, title]) => [
          `\n## ${title}\n\n| ioctl | method | capability | section | Linux |\n| --- | --- | --- | --- | --- |\n`,
          ...rows.filter((row) => row.fd === fd).flatMap((row) => cellsOf(row, tags)),
        ]),
      ]);
    },
    -100,
  );
}
