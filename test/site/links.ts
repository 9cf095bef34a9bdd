/** Reads a site on disk: its pages, and the links and search results without an existing target. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { inflateSync } from "node:zlib";

/** Lists the pages of a site, relative to its folder. */
export function pagesOf(site: string): readonly string[] {
  return readdirSync(site, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".html"))
    .sort();
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&amp;": "&",
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
};

function decode(text: string): string {
  return text.replaceAll(/&(amp|lt|gt|quot);/g, (entity) => ENTITIES[entity] ?? entity);
}

/** Returns the values of an attribute in a page. */
function valuesOf(html: string, attribute: string): readonly string[] {
  const pattern = new RegExp(`\\s${attribute}="([^"]*)"`, "g");
  return Array.from(html.matchAll(pattern), ([, value = ""]) => decode(value));
}

/** The pages of a site and the anchors of each page. */
class Site {
  readonly #folder: string;
  readonly #anchors = new Map<string, ReadonlySet<string>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  read(file: string): string {
    return readFileSync(join(this.#folder, file), "utf8");
  }

  /**
   * Returns whether the target of a link in a page is a file of the site and, if the file is a page, an existing
   * anchor.
   */
  leads(page: string, link: string): boolean {
    const [path = "", anchor = ""] = link.split("#");
    const [file = ""] = path.split("?");
    const target = file === "" ? page : relative("", join(dirname(page), decodeURIComponent(file)));
    const place = join(this.#folder, target);
    if (!existsSync(place) || !statSync(place).isFile()) return false;
    // The script icons.js adds the icons, so links to icons have no target in the HTML.
    if (anchor === "" || anchor.startsWith("icon-") || !target.endsWith(".html")) return true;
    return this.#anchorsOf(target).has(decodeURIComponent(anchor));
  }

  #anchorsOf(page: string): ReadonlySet<string> {
    const known = this.#anchors.get(page);
    if (known !== undefined) return known;
    const anchors = new Set(valuesOf(this.read(page), "id"));
    this.#anchors.set(page, anchors);
    return anchors;
  }
}

const isInside = (link: string): boolean => !/^[a-z]+:/i.test(link);

/** Returns the links of all pages, as `page: link`, if the link's target file or anchor does not exist. */
export function brokenLinks(folder: string): readonly string[] {
  const site = new Site(folder);
  return pagesOf(folder).flatMap((page) => {
    const html = site.read(page);
    const links = [...valuesOf(html, "href"), ...valuesOf(html, "src")].filter(isInside);
    const broken = Array.from(new Set(links)).filter((link) => !site.leads(page, link));
    return broken.map((link) => `${page}: ${link}`);
  });
}

/** Decodes the value that a script in TypeDoc's assets/ assigns to a variable: base64 of deflated JSON. */
export function assetOf(folder: string, name: string): unknown {
  const script = readFileSync(join(folder, "assets", name), "utf8");
  const [, base64 = ""] = /"([A-Za-z0-9+/=]{100,})"/.exec(script) ?? [];
  return JSON.parse(inflateSync(Buffer.from(base64, "base64")).toString());
}

/** A row of the site's search index. */
interface SearchRow {
  readonly name: string;
  readonly url: string;
}

/** Returns the address of each search result whose page or anchor does not exist. */
export function brokenResults(folder: string): readonly string[] {
  const site = new Site(folder);
  const { rows } = assetOf(folder, "search.js") as { readonly rows: readonly SearchRow[] };
  if (rows.length === 0) throw new Error("the search index is empty");
  return rows.map(({ url }) => url).filter((url) => !site.leads("index.html", url));
}
