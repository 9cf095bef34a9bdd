/**
 * Parses XML for the files of libvirt: elements, attributes, text, comments, CDATA, and the five entities. The parser
 * rejects DOCTYPE, so a file cannot define entities. The parser does not expand namespaces.
 */
import { quoted } from "../../options.ts";
import type { CpuidFileProblem } from "./dump.ts";
import { ProblemList, TextPlaces } from "./problems.ts";

/** An element, with its place in the file. */
export interface XmlElement {
  /** The name with its prefix, such as `qemu:arg`. */
  readonly name: string;
  /** The values of the attributes by name, in the order of the file, with entities replaced. */
  readonly attributes: ReadonlyMap<string, string>;
  /** The child elements, in order. */
  readonly children: readonly XmlElement[];
  /** The text directly inside the element, joined, with entities replaced, without white space at its ends. */
  readonly text: string;
  /** The line of the element's first `<`, from 1. */
  readonly line: number;
  /** The column of the element's first `<`, from 1. */
  readonly column: number;
}

/** The result of {@link parseXml}. */
export interface XmlDocument {
  /**
   * The root element; undefined if its start tag was not read. If there are faults, the root contains the elements that
   * were read before the parser stopped; an element whose own tag has a fault is absent.
   */
  readonly root: XmlElement | undefined;
  /**
   * The faults. The parser stops at a fault of the structure, because the meaning of the rest of the file is uncertain.
   */
  readonly problems: readonly CpuidFileProblem[];
}

/** Bounds of {@link parseXml}. */
export interface XmlLimitsInput {
  /** The maximum nesting of elements; 64 if undefined. */
  readonly depth?: number;
  /** The maximum number of elements in the file; 200,000 if undefined. */
  readonly elements?: number;
  /** The maximum number of characters in the file; 2^24 if undefined. */
  readonly characters?: number;
}

/**
 * The characters that begin a name, and the characters that continue a name: a superset of XML 1.0 section 2.3 above
 * U+007F.
 */
const NAME = /[A-Za-z_:\u{80}-\u{10ffff}][\w:.\-\u{80}-\u{10ffff}]*/uy;
const SPACE = /[ \t\r\n]*/y;
/** Characters that XML 1.0 section 2.2 excludes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern matches the characters that are rejected
const EXCLUDED = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g;
/** A reference, or an ampersand that does not begin a reference. No reference is longer than `&#x0010FFFF;`. */
const REFERENCE = /&(?:(#x[0-9a-fA-F]{1,8}|#[0-9]{1,8}|[a-z]{1,4});)?/g;
/** The five entities of XML 1.0 section 4.6. */
const ENTITIES: ReadonlyMap<string, string> = new Map([
  ["lt", "<"],
  ["gt", ">"],
  ["amp", "&"],
  ["apos", "'"],
  ["quot", '"'],
]);

/** An element while its content is read. */
interface Open {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: XmlElement[];
  readonly texts: string[];
  readonly offset: number;
  /** Whether the tag has no fault; only then is the element added to its parent. */
  readonly isGood: boolean;
}

/** A parsed start tag. */
interface StartTag {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly isEmpty: boolean;
  readonly isGood: boolean;
}

function codePoint(reference: string): string | undefined {
  const code = reference.startsWith("#x")
    ? Number.parseInt(reference.slice(2), 16)
    : Number.parseInt(reference.slice(1), 10);
  const isCharacter =
    code === 0x9 ||
    code === 0xa ||
    code === 0xd ||
    (code >= 0x20 && code <= 0xd7ff) ||
    (code >= 0xe000 && code <= 0xfffd) ||
    (code >= 0x1_0000 && code <= 0x10_ffff);
  return isCharacter ? String.fromCodePoint(code) : undefined;
}

/** Parses one document. Each method returns false after a fault that stops the parser. */
class XmlReader {
  readonly #text: string;
  readonly #places: TextPlaces;
  readonly #problems = new ProblemList();
  readonly #limits: Required<XmlLimitsInput>;
  readonly #stack: Open[] = [];
  #at = 0;
  #elements = 0;
  #root: XmlElement | undefined;
  #hasRoot = false;

  constructor(text: string, limits: Required<XmlLimitsInput>) {
    this.#text = text;
    this.#places = new TextPlaces(text);
    this.#limits = limits;
  }

  read(): XmlDocument {
    if (this.#text.startsWith("\ufeff")) this.#at = 1;
    for (const { index, 0: found } of this.#text.matchAll(EXCLUDED)) {
      const code = found.charCodeAt(0).toString(16).padStart(4, "0");
      this.#complain(index, `the character U+${code} is not allowed in XML`);
      if (this.#problems.isFull) break;
    }
    const isWhole = this.#declaration() && this.#content();
    const innermost = this.#stack.at(-1);
    if (isWhole && innermost) {
      const { line } = this.#places.at(innermost.offset);
      const name = quoted(innermost.name);
      this.#complain(this.#text.length, `the element ${name} of line ${line} is not closed`);
    } else if (isWhole && !this.#hasRoot) {
      this.#complain(this.#at, "there is no element");
    }
    while (this.#stack.length > 0) this.#close();
    return Object.freeze({ root: this.#root, problems: this.#problems.toArray() });
  }

  #complain(offset: number, message: string): false {
    const { line, column } = this.#places.at(offset);
    this.#problems.add(line, column, message);
    return false;
  }

  /** Returns the match of a sticky expression at the current offset, and moves behind it. */
  #take(sticky: RegExp): string {
    sticky.lastIndex = this.#at;
    const found = sticky.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }

  /** Moves behind the next `end`; if there is none, adds a fault about `what` at `start`. */
  #skipTo(end: string, what: string, start: number): boolean {
    const found = this.#text.indexOf(end, this.#at);
    if (found < 0) return this.#complain(start, `${what} is not closed`);
    this.#at = found + end.length;
    return true;
  }

  #declaration(): boolean {
    const start = this.#at;
    if (!/^<\?xml[ \t\r\n]/.test(this.#text.slice(start, start + 6))) return true;
    return this.#skipTo("?>", "the XML declaration", start);
  }

  #content(): boolean {
    while (this.#at < this.#text.length) {
      if (this.#problems.isFull) return false;
      const next = this.#text.indexOf("<", this.#at);
      const end = next < 0 ? this.#text.length : next;
      this.#characters(this.#at, end, true);
      this.#at = end;
      if (end < this.#text.length && !this.#markup()) return false;
    }
    return true;
  }

  /** Adds the text from `start` to `end` to the open element; outside of the root, only white space is allowed. */
  #characters(start: number, end: number, hasReferences: boolean): void {
    if (start === end) return;
    const raw = this.#text.slice(start, end);
    const open = this.#stack.at(-1);
    if (open) {
      open.texts.push(hasReferences ? this.#decode(raw, start).text : raw);
      return;
    }
    const first = raw.search(/[^ \t\r\n]/);
    if (first >= 0) this.#complain(start + first, "there is text outside of the root element");
  }

  /** Replaces the references in a text; `isGood` is false if a reference is unknown. */
  #decode(raw: string, start: number): { readonly text: string; readonly isGood: boolean } {
    let isGood = true;
    const text = raw.replaceAll(REFERENCE, (whole, name: string | undefined, offset: number) => {
      const found = name?.startsWith("#") ? codePoint(name) : ENTITIES.get(name ?? "");
      if (found !== undefined) return found;
      isGood = false;
      const message = name
        ? `${quoted(whole)} is not an entity of XML`
        : `"&" begins no entity; write "&amp;"`;
      this.#complain(start + offset, message);
      return whole;
    });
    return { text, isGood };
  }

  /** Reads a tag, a comment or another construct that begins with `<`. */
  #markup(): boolean {
    const start = this.#at;
    if (this.#text.startsWith("<!--", start)) return this.#comment(start);
    if (this.#text.startsWith("<![CDATA[", start)) {
      this.#at = start + 9;
      if (!this.#skipTo("]]>", "the CDATA section", start)) return false;
      this.#characters(start + 9, this.#at - 3, false);
      return true;
    }
    if (this.#text.startsWith("<!", start)) {
      const isDoctype = /^<!DOCTYPE/i.test(this.#text.slice(start, start + 9));
      const what = isDoctype ? "DOCTYPE" : quoted(this.#text.slice(start, start + 9));
      return this.#complain(start, `${what} is refused: this reader takes no definitions`);
    }
    if (this.#text.startsWith("<?", start)) {
      return this.#skipTo("?>", "the processing instruction", start);
    }
    return this.#text.startsWith("</", start) ? this.#endTag(start) : this.#startTag(start);
  }

  #comment(start: number): boolean {
    this.#at = start + 4;
    if (!this.#skipTo("-->", "the comment", start)) return false;
    const dashes = this.#text.slice(start + 4, this.#at - 2).indexOf("--");
    if (dashes >= 0) this.#complain(start + 4 + dashes, `a comment may not contain "--"`);
    return true;
  }

  #endTag(start: number): boolean {
    this.#at = start + 2;
    const name = this.#take(NAME);
    this.#take(SPACE);
    if (name === "" || this.#text[this.#at] !== ">") {
      return this.#complain(start, "an end tag is not complete");
    }
    this.#at += 1;
    const open = this.#stack.at(-1);
    if (!open) return this.#complain(start, `the end tag ${quoted(name)} closes no element`);
    if (open.name !== name) {
      const { line } = this.#places.at(open.offset);
      const wanted = `${quoted(open.name)} of line ${line}`;
      return this.#complain(start, `the end tag is ${quoted(name)}, but ${wanted} is open`);
    }
    this.#close();
    return true;
  }

  #startTag(start: number): boolean {
    const { depth, elements } = this.#limits;
    if (this.#stack.length === 0 && this.#hasRoot) {
      return this.#complain(start, "there is a second root element");
    }
    if (this.#stack.length >= depth) {
      return this.#complain(start, `there are more than ${depth} elements inside each other`);
    }
    this.#elements += 1;
    if (this.#elements > elements) {
      return this.#complain(start, `there are more than ${elements} elements`);
    }
    const tag = this.#readTag(start);
    if (!tag) return false;
    const { name, attributes, isEmpty, isGood } = tag;
    this.#hasRoot = true;
    this.#stack.push({ name, attributes, children: [], texts: [], offset: start, isGood });
    if (isEmpty) this.#close();
    return true;
  }

  #readTag(start: number): StartTag | undefined {
    const stop = (offset: number, message: string): undefined => {
      this.#complain(offset, message);
      return undefined;
    };
    this.#at = start + 1;
    const name = this.#take(NAME);
    if (name === "") return stop(start, `"<" begins no tag; write "&lt;"`);
    const attributes = new Map<string, string>();
    let isGood = true;
    for (;;) {
      const hasSpace = this.#take(SPACE) !== "";
      const at = this.#at;
      if (this.#text[at] === ">" || this.#text.startsWith("/>", at)) {
        const isEmpty = this.#text[at] === "/";
        this.#at = at + (isEmpty ? 2 : 1);
        return { name, attributes, isEmpty, isGood };
      }
      if (at >= this.#text.length) return stop(start, `the tag ${quoted(name)} is not closed`);
      const attribute = this.#take(NAME);
      if (attribute === "" || !hasSpace) {
        const found = quoted(this.#text.slice(at, at + 1));
        return stop(at, `the tag ${quoted(name)} has ${found} in place of an attribute`);
      }
      const value = this.#attributeValue(attribute, at);
      if (value === undefined) return undefined;
      if (attributes.has(attribute)) {
        this.#complain(at, `the attribute ${quoted(attribute)} is there twice`);
      }
      isGood &&= value.isGood && !attributes.has(attribute);
      attributes.set(attribute, value.text);
      if (this.#problems.isFull) return undefined;
    }
  }

  #attributeValue(
    name: string,
    start: number,
  ): { readonly text: string; readonly isGood: boolean } | undefined {
    this.#take(SPACE);
    const isEqual = this.#text[this.#at] === "=";
    if (isEqual) this.#at += 1;
    this.#take(SPACE);
    const quote = this.#text[this.#at];
    if (!isEqual || (quote !== '"' && quote !== "'")) {
      this.#complain(start, `the attribute ${quoted(name)} has no value in quotes`);
      return undefined;
    }
    const from = this.#at + 1;
    const to = this.#text.indexOf(quote, from);
    const raw = this.#text.slice(from, to);
    if (to < 0 || raw.includes("<")) {
      this.#complain(start, `the value of the attribute ${quoted(name)} is not closed`);
      return undefined;
    }
    this.#at = to + 1;
    const { text, isGood } = this.#decode(raw, from);
    return { text: text.replaceAll(/\r\n|[\t\r\n]/g, " "), isGood };
  }

  /** Closes the innermost element and adds it to its parent. */
  #close(): void {
    const open = this.#stack.pop();
    if (!open) return;
    const text = open.texts.join("").replaceAll("\r\n", "\n").trim();
    const { name, attributes } = open;
    const children = Object.freeze(open.children);
    const element = { name, attributes, children, text, ...this.#places.at(open.offset) };
    if (!open.isGood) return;
    const parent = this.#stack.at(-1);
    if (parent) parent.children.push(Object.freeze(element));
    else this.#root = Object.freeze(element);
  }
}

/**
 * Parses an XML document. The parser never throws for the text; all faults are in `problems`, each with its line and
 * column. The time is proportional to the length of the text.
 */
export function parseXml(text: string, limits: XmlLimitsInput = {}): XmlDocument {
  const { depth = 64, elements = 200_000, characters = 2 ** 24 } = limits;
  if (text.length > characters) {
    const message = `the file has ${text.length} characters; at most ${characters} are read`;
    return Object.freeze({ root: undefined, problems: [{ line: 0, column: 1, message }] });
  }
  return new XmlReader(text, { depth, elements, characters }).read();
}

/** Lists an element and all elements inside it, in the order of the file. */
export function xmlElements(root: XmlElement): readonly XmlElement[] {
  const found: XmlElement[] = [];
  const waiting = [root];
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    found.push(next);
    for (const child of next.children.toReversed()) waiting.push(child);
  }
  return found;
}

/** Replaces the characters that have a meaning in XML, for text and for attributes in either kind of quote. */
export function escapeXml(text: string): string {
  let escaped = text;
  for (const [name, character] of [
    ["amp", "&"],
    ["lt", "<"],
    ["gt", ">"],
    ["apos", "'"],
    ["quot", '"'],
  ] as const) {
    escaped = escaped.replaceAll(character, `&${name};`);
  }
  return escaped;
}
