/**
 * Recognises Git LFS pointers: Git stores a pointer in place of a large file. The pointer does not contain the large
 * file, so there is no table.
 */
import type { CpuidDump, CpuidFormat } from "./dump.ts";
import { decodeText, headText } from "./lines.ts";

const NAME = "git-lfs";

/** The first line of a pointer (Git LFS, docs/spec.md). */
const VERSION = /^version https:\/\/git-lfs\.github\.com\/spec\/v\d+\r?\n/;
const OID = /^oid (sha256:[0-9a-f]{64})\r?$/m;
const SIZE = /^size (\d{1,20})\r?$/m;

function parse(bytes: Uint8Array): CpuidDump {
  // A pointer is shorter than 1,024 bytes.
  const text = decodeText(bytes.subarray(0, 1024));
  const oid = OID.exec(text)?.[1];
  const size = SIZE.exec(text)?.[1];
  const message =
    oid === undefined || size === undefined
      ? "the file is a damaged Git LFS pointer: it has no oid or no size"
      : `the file is a Git LFS pointer to ${size} bytes with the oid ${oid}; get them with "git lfs pull"`;
  const problems = [{ line: 1, column: 1, message }];
  return { kind: "tables", format: NAME, tables: [], problems, notes: [], msrs: [] };
}

/** The format of Git LFS pointers, which contain no table. */
export const gitLfs: CpuidFormat = {
  name: NAME,
  title: "a Git LFS pointer, whose contents are elsewhere",
  kind: "tables",
  isLossless: false,
  likelihood: (head) => (VERSION.test(headText(head)) ? 1 : 0),
  parse,
  format: undefined,
};
