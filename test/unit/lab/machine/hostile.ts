/** A table of the outputs of hostile guests on their ports, with the lab's reaction to each. */

/**
 * The hostile output of one guest. The host has requested the guest's files in /out. The guest boots and runs the
 * command, and then sends the hostile bytes.
 */
export interface Hostile {
  readonly title: string;
  /** The bytes that the guest writes to ttyS3. */
  readonly control: string;
  /** A part of the reason why the machine is killed. */
  readonly why: string;
}

const OK = "status 0 0 0\n";

/** Returns the messages of init with which a guest sends a status, and then a file of six bytes with this path. */
const file = (path: string): string => `${OK}file 6 ${path}\nhostilend\nend\n`;

const PATHS: readonly (readonly [title: string, path: string, why: string])[] = [
  ["that leaves the target by ..", "/out/../../../../X", "which is not normalised"],
  ["that ends in ..", "/out/..", "which is not normalised"],
  ["with a dot", "/out/./a", "which is not normalised"],
  ["with two slashes", "/out//a", "which is not normalised"],
  ["with a slash at its end", "/out/a/", "which is not normalised"],
  ["that is relative", "out/a", "which is not absolute"],
  ["that is empty", "", "which is not absolute"],
  ["that the host did not request", "/etc/passwd", "which is not a file that the host requested"],
  [
    "whose path only begins like a requested one",
    "/outside/a",
    "which is not a file that the host requested",
  ],
  ["with NUL", "/out/a\0b", "which has a control character"],
  ["with an escape sequence", "/out/\u001b[2J", "which has a control character"],
  ["with a C1 control character", "/out/\u009b2J", "which has a control character"],
];

const LENGTHS = ["100000000000000", "99999999999999999999", "-1", "1e3", "0x10", "6.5", "", "six"];

const STATUSES = ["", " 0", " 0 0", " 0 0 0 0", " 256 0 0", " -1 0 0", " x 0 0", " 0 1e3 0"];

/** The lab must kill the machine after each of these outputs, because the machine never ends by itself. */
export const HOSTILE: readonly Hostile[] = [
  ...PATHS.map(([title, path, why]) => ({ title: `a path ${title}`, control: file(path), why })),
  ...LENGTHS.map((length) => ({
    title: `a file of ${JSON.stringify(length)} bytes`,
    control: `${OK}file ${length} /out/a\n`,
    why: /^\d{1,15}$/.test(length) ? "exceeds the limit" : "without a number of bytes",
  })),
  ...STATUSES.map((status) => ({
    title: `a status of ${JSON.stringify(status)}`,
    control: `status${status}\n`,
    why: "which is not an exit status and two numbers of bytes",
  })),
  {
    title: "a file before the status",
    control: "file 1 /out/a\nx",
    why: "before the command's status",
  },
  {
    title: "a missing file before the status",
    control: "missing /out\n",
    why: "before the command's status",
  },
  {
    title: "one file twice",
    control: `${OK}file 0 /out/a\nfile 0 /out/a\n`,
    why: "for the second time",
  },
  {
    title: "a file below a file",
    control: `${OK}file 0 /out/a\nfile 0 /out/a.b\nfile 0 /out/a/b\nend\n`,
    why: "though /out/a is a file",
  },
  {
    title: "a file where another is below",
    control: `${OK}file 0 /out/a/b\nfile 0 /out/a\nend\n`,
    why: "though /out/a is a file",
  },
  { title: "two statuses", control: `${OK}status 1 0 0\n`, why: "for the second time" },
  { title: "that it waits twice", control: "ready\nready\n", why: "for the second time" },
  { title: "the command's start twice", control: "run\n", why: "for the second time" },
  { title: "words after the last", control: `${OK}end\n${OK}`, why: "after its last message" },
  { title: "noise between files", control: `${OK}xfile 6 /out/a\n`, why: "which is not a message" },
  {
    title: "a line that is too long",
    control: `missing ${"a".repeat(9000)}\n`,
    why: "a line of more than 8192 bytes on ttyS3",
  },
  {
    title: "a line without an end",
    control: "a".repeat(100_000),
    why: "a line of more than 8192 bytes on ttyS3",
  },
  {
    title: "more files than there may be",
    control: OK + Array.from({ length: 65_537 }, (_, i) => `file 0 /out/${i}\n`).join(""),
    why: "after 65536 other files",
  },
];
