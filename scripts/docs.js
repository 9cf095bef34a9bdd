/**
 * Makes the documentation site in site/: the reference of every public entry, the guides, and an index by ioctl and by
 * errno. A warning of TypeDoc is an error. `--out DIR` selects another folder. scripts/site/ makes the index pages.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Application } from "typedoc";
import { errnoPage } from "./site/errno-page.js";
import { embedIcons } from "./site/icons.js";
import { ioctlPage } from "./site/ioctl-page.js";
import { linkSections } from "./site/ioctl-tag.js";
import { linkAcrossEntries, nameModules, titleDocuments } from "./site/names.js";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const { values } = parseArgs({ options: { out: { type: "string", default: "site" } } });
const manifest = JSON.parse(readFileSync("package.json", "utf8"));

/** The source file of each public entry, by the name that a program imports. */
const entries = Object.fromEntries(
  Object.entries(manifest.exports).flatMap(([name, target]) =>
    typeof target === "string"
      ? []
      : [
          [
            join(manifest.name, name),
            target.types.replace("./dist/", "lib/").replace(".d.ts", ".ts"),
          ],
        ],
  ),
);

/** The constants of the kernel's headers, which have C names and need no description. */
const constants = Array.from(
  readFileSync("lib/abi/generated/constants.ts", "utf8").matchAll(/(?<!\*\/)\nexport const (\w+)/g),
  ([, name]) => `${manifest.name}/abi.${name}`,
);

/** Types that belong to another type; the page of the other type shows them. */
const PARTS = [
  "Arguments",
  ...["VENDOR_MODULES", "CPUID_FIELDS", "PlainFormatName"],
  ...["UnionStruct", "OneOf", "PaddingName"],
];

/** The documents of docs/ in the order of the navigation; all other documents follow. */
const ORDER = [
  ...[
    "first-vm",
    "exits",
    "threads",
    "memory",
    "state",
    "traces",
    "cpuid",
    "cpuid-toolkit",
    "lab",
  ].map((name) => `docs/guides/${name}.md`),
  "docs/claims.md",
  "docs/errors.md",
  "docs/examples.md",
];
const written = readdirSync("docs", { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".md"))
  .map((file) => join("docs", file));
const others = written.filter((file) => !ORDER.includes(file)).sort();
const isDecision = (file) => file.startsWith("docs/decisions/");
const documents = [
  ...ORDER.filter((file) => written.includes(file)),
  ...others.filter((file) => !isDecision(file)),
  "CONTRIBUTING.md",
  ...others.filter(isDecision),
];

const application = await Application.bootstrap({
  entryPoints: Object.values(entries),
  projectDocuments: documents,
  tsconfig: "tsconfig.json",
  readme: "README.md",
  name: "node-kvm",
  includeVersion: true,
  html: resolve(values.out),
  cleanOutputDir: true,
  githubPages: false,
  // TypeDoc does not check the types, because `npm run check` does.
  skipErrorChecking: true,
  excludeInternal: true,
  excludePrivate: true,
  excludeProtected: true,
  sort: ["documents-first", "kind", "alphabetical"],
  sortEntryPoints: false,
  blockTags: [
    "@param",
    "@returns",
    "@throws",
    "@example",
    "@typeParam",
    "@template",
    "@ioctl",
    "@source",
  ],
  searchInComments: true,
  searchInDocuments: true,
  navigation: { includeCategories: false, includeGroups: false, includeFolders: false },
  customCss: "scripts/site/site.css",
  highlightLanguages: ["bash", "c", "console", "javascript", "json", "typescript"],
  ignoredHighlightLanguages: ["text"],
  treatWarningsAsErrors: true,
  validation: { notDocumented: true, notExported: true, invalidLink: true, invalidPath: true },
  intentionallyNotDocumented: constants,
  intentionallyNotExported: PARTS,
  // Properties need no description, because the name, the type and the interface explain most of them.
  requiredToBeDocumented: [
    "Enum",
    "EnumMember",
    "Variable",
    "Function",
    "Class",
    "Interface",
    "Method",
    "Accessor",
    "TypeAlias",
  ],
});
nameModules(application, entries);
titleDocuments(application);
linkAcrossEntries(application);
linkSections(application);
ioctlPage(application);
await errnoPage(application);
embedIcons(application);

const project = await application.convert();
if (project === undefined) process.exit(1);
application.validate(project);
await application.generateOutputs(project);
if (application.logger.hasErrors() || application.logger.hasWarnings()) process.exitCode = 1;
