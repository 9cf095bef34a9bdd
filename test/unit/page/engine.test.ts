/** Tests of the page's engine, which are run without a browser. */
import { describe, expect, test } from "vitest";
import { type CpuidTable, formatCpuid, modelTable } from "../../../lib/cpuid/index.ts";
import { createEngine, offer } from "../../../lib/page/engine.ts";
import type { Answers, Ask } from "../../../lib/page/protocol.ts";
import { counted, matchesField } from "../../../lib/page/words.ts";

const MILAN = modelTable("EPYC-Milan");
const json = (...tables: readonly CpuidTable[]): Uint8Array => formatCpuid(tables, "json");

/** Wraps an engine so that its results are returned and its errors are thrown. */
function started(): <A extends Ask>(ask: A) => Answers[A["op"]] {
  const engine = createEngine();
  let last = 0;
  return <A extends Ask>(ask: A) => {
    last += 1;
    const reply = engine(last, ask);
    expect(reply.id).toBe(last);
    if ("error" in reply) throw new Error(reply.error);
    return reply.answer as Answers[A["op"]];
  };
}

const first = { document: 1, table: 0 };
const second = { document: 2, table: 0 };

describe("createEngine()", () => {
  test("returns the format, the tables and the model of a document", () => {
    const ask = started();
    const view = ask({ op: "add", name: "milan.json", bytes: json(MILAN) });
    expect(view).toMatchObject({ document: 1, name: "milan.json", kind: "tables", problems: [] });
    expect(view.tables).toMatchObject([{ ref: first, label: "milan.json", entries: MILAN.length }]);
    expect(view.tables[0]?.summary).toContain("AuthenticAMD, family 25, model 1");
  });

  test("distinguishes the CPUs of one document", () => {
    const view = started()({ op: "add", name: "two", bytes: json(MILAN, MILAN) });
    expect(view.tables.map(({ label }) => label)).toEqual(["two, CPU 0", "two, CPU 1"]);
  });

  test("decodes a register into fields, with each field's other names and the line of the entry", () => {
    const ask = started();
    ask({ op: "add", name: "t", bytes: formatCpuid([MILAN], "cpuid-r") });
    const leaf = ask({ op: "decode", table: first }).find((entry) => entry.leaf === "0x7.0");
    const fields = leaf?.registers.find(({ name }) => name === "ebx")?.fields ?? [];
    expect(fields.find(({ name }) => name === "avx2")).toMatchObject({ bits: "[5]", isSet: true });
    const text = new TextDecoder().decode(formatCpuid([MILAN], "cpuid-r")).split("\n");
    expect(text[(leaf?.line ?? 0) - 1]).toContain("0x00000007 0x00:");
  });

  test("returns the lines around a given line, and the first lines if the line is before the beginning", () => {
    const ask = started();
    const bytes = new TextEncoder().encode(
      Array.from({ length: 100 }, (_, i) => `l${i + 1}`).join("\n"),
    );
    ask({ op: "add", name: "t", bytes });
    const around = ask({ op: "lines", document: 1, line: 50 });
    expect([around.first, around.lines[0], around.lines.at(-1), around.total]).toEqual([
      30,
      "l30",
      "l70",
      100,
    ]);
    expect(ask({ op: "lines", document: 1, line: -5 }).first).toBe(1);
    expect(ask({ op: "lines", document: 1, line: 1e9 }).lines.at(-1)).toBe("l100");
  });

  test.each([
    [
      "UTF-16",
      new Uint8Array([0xff, 0xfe, ...[..."a\nb\nc"].flatMap((c) => [c.charCodeAt(0), 0])]),
    ],
    ["line breaks of CR", new TextEncoder().encode("a\rb\rc")],
    ["CR LF and CR mixed", new TextEncoder().encode("a\r\nb\rc")],
  ])("splits a text into the same lines as the parsers: %s", (_, bytes) => {
    const ask = started();
    ask({ op: "add", name: "t", bytes });
    expect(ask({ op: "lines", document: 1, line: 2 }).lines).toEqual(["a", "b", "c"]);
  });

  test("lists each fault with its rule, and each rule that was not judged with the reason", () => {
    const ask = started();
    ask({ op: "add", name: "t", bytes: json(MILAN.with({ sse2: 0 })) });
    const { title, lines, folded } = ask({ op: "lint", table: first, profile: "guest" });
    expect(title).toMatch(/^\d+ findings?; \d+ rules judged, \d+ not judged\.$/);
    expect(lines.filter(({ tone }) => tone === "bad").map(({ kind }) => kind)).toContain(
      "error D01",
    );
    expect(folded?.lines.find(({ kind }) => kind === "K08")?.text).toContain("supported");
  });

  test("does not repeat the place of a fault in its text", () => {
    const ask = started();
    ask({ op: "add", name: "t", bytes: json(MILAN.with({ osxsave: 1, sse2: 0 })) });
    const { lines } = ask({ op: "lint", table: first, profile: "guest" });
    expect(lines.find(({ where }) => where === "0x1.0:ecx[27]")?.text).toMatch(/^osxsave: /);
    expect(lines.filter(({ where, text }) => text.startsWith(where))).toEqual([]);
  });

  test("gives each field the names and the place with which a search finds it", () => {
    const ask = started();
    ask({ op: "add", name: "t", bytes: json(MILAN) });
    const fields = ask({ op: "decode", table: first }).flatMap(({ registers }) =>
      registers.flatMap((one) => one.fields),
    );
    const found = (wanted: string): readonly string[] =>
      fields.filter((one) => matchesField(one, wanted)).map(({ name }) => name);
    expect(found("0x7.0:ebx[5]")).toEqual(["avx2"]);
    expect(found("kvmclock")).toEqual([]);
    expect(found("xmm3")).toEqual(["pni"]);
  });

  test("counts nouns in the singular and in the plural", () => {
    expect([counted(1, "fault"), counted(0, "fault")]).toEqual(["1 fault", "0 faults"]);
  });

  test("refuses a lint profile that has no rules", () => {
    const ask = started();
    ask({ op: "add", name: "t", bytes: json(MILAN) });
    expect(() => ask({ op: "lint", table: first, profile: "tablet" })).toThrow(
      "there are no rules for tablet",
    );
  });

  test("lists differences and the relation of two tables", () => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN) });
    ask({ op: "add", name: "b", bytes: json(MILAN.with({ avx2: 0 })) });
    const { title, lines } = ask({ op: "diff", before: first, after: second });
    expect(lines).toMatchObject([{ kind: "feature", where: "0x7.0:ebx[5]", text: "avx2: 1 -> 0" }]);
    expect(title).toContain("1 difference");
    expect(title).toContain("a superset of the second");
  });

  test("lists the reasons why a guest cannot continue on another host", () => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN) });
    ask({ op: "add", name: "b", bytes: json(MILAN.with({ avx2: 0 })) });
    const there = ask({ op: "portable", from: first, to: second, tsc: "same" });
    expect(there.title).toContain("cannot continue");
    expect(there.lines.some(({ where }) => where === "0x7.0:ebx[5]")).toBe(true);
  });

  test("states the TSC frequency as the condition if nothing else prevents the guest from continuing", () => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN.with({ constant_tsc: 1 })) });
    const portable = (tsc: string): Answers["portable"] =>
      ask({ op: "portable", from: first, to: first, tsc });
    expect(portable("unknown").title).toMatch(
      /can continue on the second, if the TSC frequency is the same\.$/,
    );
    expect(portable("unknown").lines[0]?.text).toMatch(
      /do not contain; choose it under "TSC frequency there"$/,
    );
    for (const tsc of ["same", "scaled"])
      expect(portable(tsc).title).toMatch(/can continue on the second\.$/);
    expect(() => portable("faster")).toThrow("there is no TSC frequency faster");
  });

  test("adds the baseline as a document, and the baseline is a subset of each host", () => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN) });
    ask({ op: "add", name: "b", bytes: json(MILAN.with({ avx2: 0 })) });
    const { added, title } = ask({ op: "baseline", tables: [first, second] });
    const { lines } = ask({ op: "baseline", tables: [first, second] });
    expect(lines.find(({ where }) => where === "0x7.0:ebx[5]")?.text).toBe(
      "avx2: the host has 1, the baseline 0",
    );
    expect(title).toMatch(/^The baseline of 2 tables has \d+ entries\.$/);
    expect(added?.tables[0]?.ref).toEqual({ document: 3, table: 0 });
    const entries = ask({ op: "decode", table: { document: 3, table: 0 } });
    const fields = entries.flatMap(({ registers }) => registers.flatMap((one) => one.fields));
    expect(fields.find(({ name }) => name === "avx2")?.isSet).toBe(false);
  });

  test("states that hosts of two vendors have no baseline", () => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN) });
    ask({ op: "add", name: "b", bytes: json(modelTable("Skylake-Server")) });
    const { added, title } = ask({ op: "baseline", tables: [first, second] });
    expect(added).toBeUndefined();
    expect(title).toContain("There is no baseline");
  });

  test.each(offer().formats.map(({ name }) => [name]))("converts a table into %s", (format) => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN) });
    const { text, isBinary } = ask({ op: "convert", tables: [first], format });
    expect(isBinary).toBe(format === "kvm");
    expect(text.length).toBeGreaterThan(100);
  });

  test("creates a link from which the same table is read", () => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN) });
    const link = ask({ op: "link", table: first });
    expect(link).toMatch(/^[\w-]+$/);
    const bytes = Uint8Array.from(Buffer.from(link, "base64url"));
    const view = ask({ op: "add", name: "link", bytes });
    expect(
      ask({ op: "diff", before: first, after: { document: view.document, table: 0 } }).lines,
    ).toEqual([]);
  });

  test("lists the bits that KVM sets itself, and the rule for calls after the first run", () => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN) });
    const { title, lines } = ask({ op: "kvm", table: first });
    expect(title).toContain("No rule of KVM_SET_CPUID2 refuses this table");
    expect(lines.some(({ where }) => where.includes("osxsave"))).toBe(true);
    expect(lines.at(-1)?.text).toContain("EINVAL");
  });

  test("lists a rule of KVM_SET_CPUID2 that a table violates", () => {
    const ask = started();
    ask({ op: "add", name: "a", bytes: json(MILAN.with({ virt_addr_bits: 52 })) });
    const { lines } = ask({ op: "kvm", table: first });
    expect(lines[0]).toMatchObject({ kind: "EINVAL", tone: "bad" });
  });

  test("keeps a document that has faults, with the lines of the faults", () => {
    const view = started()({
      op: "add",
      name: "t",
      bytes: new TextEncoder().encode("{\n  oops\n}"),
    });
    expect(view.tables).toEqual([]);
    expect(view.problems.length).toBeGreaterThan(0);
  });

  test("reports the name of a document or table that does not exist", () => {
    const ask = started();
    expect(() => ask({ op: "decode", table: first })).toThrow("there is no document 1");
    ask({ op: "add", name: "t", bytes: json(MILAN) });
    expect(() => ask({ op: "decode", table: { document: 1, table: 1 } })).toThrow(
      "t has no table 1",
    );
    ask({ op: "remove", document: 1 });
    expect(() => ask({ op: "decode", table: first })).toThrow("there is no document 1");
  });
});
