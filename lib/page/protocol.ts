/** The messages between the page and its engine, which runs in a worker. engine.ts implements the engine. */

/** The reference to a table: its document and its position. */
export interface TableRef {
  /** The document's number. */
  readonly document: number;
  /** The position of the table in the document. */
  readonly table: number;
}

/** A request to the engine. */
export type Ask =
  | { readonly op: "add"; readonly name: string; readonly bytes: Uint8Array }
  | { readonly op: "remove"; readonly document: number }
  | { readonly op: "lines"; readonly document: number; readonly line: number }
  | { readonly op: "decode"; readonly table: TableRef }
  | { readonly op: "lint"; readonly table: TableRef; readonly profile: string }
  | { readonly op: "diff"; readonly before: TableRef; readonly after: TableRef }
  | {
      readonly op: "portable";
      readonly from: TableRef;
      readonly to: TableRef;
      readonly tsc: string;
    }
  | { readonly op: "baseline"; readonly tables: readonly TableRef[] }
  | { readonly op: "convert"; readonly tables: readonly TableRef[]; readonly format: string }
  | { readonly op: "kvm"; readonly table: TableRef }
  | { readonly op: "link"; readonly table: TableRef };

/** One table of a document, with the data that the lists of the page show. */
export interface TableLabel {
  readonly ref: TableRef;
  /** The name of the document with the CPU's number, if the document has several tables. */
  readonly label: string;
  /** The vendor, family, model, stepping and brand, if the table contains them. */
  readonly summary: string;
  readonly entries: number;
}

/** A fault in a document. */
export interface DocumentProblem {
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** The description of a document that was added. */
export interface DocumentView {
  readonly document: number;
  readonly name: string;
  /** The title of the format that was detected. */
  readonly format: string;
  /** The kind of contents: "tables", "mask" or "features". */
  readonly kind: string;
  readonly tables: readonly TableLabel[];
  readonly problems: readonly DocumentProblem[];
  readonly notes: readonly string[];
  /** The lines of a mask or of a list of features. */
  readonly text: readonly string[];
}

/** A decoded field of a register. */
export interface FieldView {
  readonly name: string;
  /** Other names of the field, for the search. */
  readonly aliases: readonly string[];
  readonly bits: string;
  /** The place, such as `0x7.0:ebx[5]`, for the search. */
  readonly place: string;
  readonly value: string;
  /** The name of the value; an empty text if it has none. */
  readonly meaning: string;
  readonly description: string;
  /** Whether the field is not 0. */
  readonly isSet: boolean;
}

/** A decoded entry. */
export interface EntryView {
  readonly leaf: string;
  readonly flags: number;
  readonly line: number;
  readonly registers: readonly {
    readonly name: string;
    readonly value: string;
    readonly fields: readonly FieldView[];
    /** The unnamed bits that are 1, as `[5] [9:8]`. */
    readonly unnamed: string;
  }[];
}

/** A line of a result: a word for the kind of line, the place, and a sentence. */
export interface ResultLine {
  readonly kind: string;
  /** The style of the line: "bad", "known", "good" or "quiet". */
  readonly tone: "bad" | "known" | "good" | "quiet";
  readonly where: string;
  readonly text: string;
  /** A second sentence, such as the remedy; or an empty text. */
  readonly more: string;
  /** The line in the document; 0 if there is none. */
  readonly line: number;
}

/** A result of several lines. */
export interface Lines {
  readonly title: string;
  readonly lines: readonly ResultLine[];
  /** A title, and lines that the page shows on request. */
  readonly folded?: { readonly title: string; readonly lines: readonly ResultLine[] };
}

/** An excerpt of a document: one line, and the lines around it. */
export interface Excerpt {
  readonly first: number;
  readonly lines: readonly string[];
  readonly total: number;
}

/** The type of the engine's result for each kind of request. */
export interface Answers {
  readonly add: DocumentView;
  readonly remove: undefined;
  readonly lines: Excerpt;
  readonly decode: readonly EntryView[];
  readonly lint: Lines;
  readonly diff: Lines;
  readonly portable: Lines;
  /** The baseline is added as a separate document. */
  readonly baseline: Lines & { readonly added: DocumentView | undefined };
  readonly convert: {
    readonly text: string;
    readonly isBinary: boolean;
    readonly notes: readonly string[];
  };
  readonly kvm: Lines;
  /** The table as base64url text, for the fragment of the page's address. */
  readonly link: string;
}

/** A request with a number that identifies its reply. */
export interface Message {
  readonly id: number;
  readonly ask: Ask;
}

/** The reply to a request: a result, or a sentence with the reason of the failure. */
export type Reply =
  | { readonly id: number; readonly answer: Answers[Ask["op"]] }
  | { readonly id: number; readonly error: string };

/** The formats and profiles that the page offers; the engine sends them first. */
export interface Offer {
  /** The titles of the formats that are read. */
  readonly reads: readonly string[];
  /** The formats that are written. */
  readonly formats: readonly {
    readonly name: string;
    readonly title: string;
    readonly isLossless: boolean;
  }[];
  readonly profiles: readonly { readonly name: string; readonly title: string }[];
  /** The assumptions about the TSC frequency of the other host, and the label of their list. */
  readonly tsc: readonly { readonly name: string; readonly title: string }[];
  readonly tscLabel: string;
}
