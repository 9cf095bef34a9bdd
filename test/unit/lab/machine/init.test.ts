/** Tests of init's messages on ttyS3: they are parsed correctly in whatever pieces they arrive. */
import { describe, expect, test } from "vitest";
import { Control, guestPath, INIT, type Word } from "../../../../lib/lab/machine/init.ts";

const SPOKEN = Buffer.concat([
  Buffer.from("up\nready\nrun\nbeat\nstatus 3 120 0\nfile 7 /tmp/a b\n"),
  Buffer.from("end\n\0\xff\n", "latin1"),
  Buffer.from("missing /tmp/none\nend\n"),
]);

const WORDS: readonly Word[] = [
  { kind: "up" },
  { kind: "ready" },
  { kind: "run" },
  { kind: "beat" },
  { kind: "status", status: 3, stdout: 120, stderr: 0 },
  {
    kind: "file",
    path: "/tmp/a b",
    bytes: Uint8Array.from(Buffer.from("end\n\0\xff\n", "latin1")),
  },
  { kind: "missing", path: "/tmp/none" },
  { kind: "end" },
];

describe("the parser of init's control messages", () => {
  test("parses messages that arrive at once", () => {
    expect(new Control().push(SPOKEN)).toEqual(WORDS);
  });

  test("parses messages that arrive byte by byte", () => {
    const control = new Control();
    expect(Array.from(SPOKEN, (byte) => control.push(Uint8Array.of(byte))).flat()).toEqual(WORDS);
  });

  test("returns nothing for a truncated file", () => {
    const words = new Control().push(Buffer.from("status 0 0 0\nfile 9 /tmp/a\nend\n"));
    expect(words).toEqual([{ kind: "status", status: 0, stdout: 0, stderr: 0 }]);
  });

  test("returns a file and a missing file whose names contain a tab", () => {
    const words = new Control(["/out"]).push(
      Buffer.from("status 0 0 0\nfile 1 /out/a\tb\nxmissing /out/\t\nend\n"),
    );
    expect(words.slice(1)).toMatchObject([
      { kind: "file", path: "/out/a\tb" },
      { kind: "missing", path: "/out/\t" },
      { kind: "end" },
    ]);
  });

  test("returns the reason why the guest has no KVM", () => {
    const words = new Control().push(Buffer.from("no-kvm insmod: can't insert 'kvm-amd.ko'\n"));
    expect(words).toEqual([{ kind: "no-kvm", why: "insmod: can't insert 'kvm-amd.ko'" }]);
  });

  test("ignores a line that is not a message", () => {
    expect(new Control().push(Buffer.from("garbage\nend\n"))).toEqual([{ kind: "end" }]);
  });
});

describe("a path in the guest that the user passes", () => {
  test.each([
    ["/out", "/out"],
    ["/out/", "/out"],
    ["/a//b/./c/..", "/a/b"],
    ["/../x", "/x"],
    ["/", "/"],
    ["/with blank ", "/with blank "],
    ["/with\ttab", "/with\ttab"],
  ])("%j is normalised to %j", (text, path) => {
    expect(guestPath(text)).toBe(path);
  });

  test.each(["out", "./out", "", "../out", "/a\nb", "/a\0", "/a\u001b"])(
    "%j is rejected",
    (text) => {
      expect(() => guestPath(text)).toThrow(expect.objectContaining({ code: "ERR_LAB_FILE" }));
    },
  );
});

test("the guest's init sends its last message after all output of the command", () => {
  const lines = INIT.split("\n");
  const [sent, end] = [/^for port in 1 2; do stty/, /^echo end /].map((line) =>
    lines.findIndex((text) => line.test(text)),
  );
  expect(sent).toBeGreaterThan(0);
  expect(end).toBeGreaterThan(sent ?? 0);
});

test("the guest's init powers the machine off in every case", () => {
  expect(INIT.trimEnd().split("\n").at(-1)).toBe("poweroff -f");
});
