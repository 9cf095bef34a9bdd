/**
 * Tests of the page dist/cpuid.html in Chromium, read from file:// without a network: formats, faults, comparisons,
 * links, a large paste, and screen widths.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CPUID_FORMATS, type CpuidTable, formatCpuid, modelTable } from "../../lib/cpuid/index.ts";

const FILE = fileURLToPath(new URL("../../dist/cpuid.html", import.meta.url));
const BROWSER = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const ADDRESS = pathToFileURL(FILE).href;
/** The time limit for a task of the page's thread, in seconds; a longer task visibly freezes the page. */
const FREEZE = 0.1;

const folder = mkdtempSync(join(tmpdir(), "node-kvm-page-"));
let browser: Browser;

beforeAll(async () => {
  browser = await chromium.launch({
    executablePath: BROWSER,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic"],
  });
});

afterAll(async () => {
  await browser.close();
  rmSync(folder, { recursive: true });
});

interface Opened {
  readonly page: Page;
  /** The requests that the page made, except for the page's own file. */
  readonly requests: readonly string[];
  readonly errors: readonly string[];
}

async function open({ width = 1280, hash = "" } = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width, height: 900 }, offline: true });
  const page = await context.newPage();
  const requests: string[] = [];
  const errors: string[] = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(ADDRESS)) requests.push(request.url());
  });
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(`${ADDRESS}${hash}`);
  await page.waitForSelector("html[data-ready]");
  return { page, requests, errors };
}

const paste = async (page: Page, text: string): Promise<void> => {
  await page.fill("#paste", text);
  await page.click("#add button[type=submit]");
};

const MILAN = modelTable("EPYC-Milan");
const ROME = modelTable("EPYC-Rome");
const SKYLAKE = modelTable("Skylake-Server");
const text = (table: CpuidTable, format: Parameters<typeof formatCpuid>[1]): string =>
  Buffer.from(formatCpuid([table], format)).toString("utf8");

describe("the page", () => {
  test("has at most 300 kB when compressed", () => {
    expect(gzipSync(readFileSync(FILE)).length).toBeLessThan(300_000);
  });

  test("states that it sends no data, and makes no request while it is used", async () => {
    const { page, requests, errors } = await open();
    expect(await page.textContent("header")).toContain("sends nothing");
    await paste(page, text(MILAN, "json"));
    await page.waitForSelector("#decoded h3");
    expect({ requests: requests.filter((url) => !url.startsWith("blob:")), errors }).toEqual({
      requests: [],
      errors: [],
    });
  });

  test.each(
    CPUID_FORMATS.filter(({ format, name }) => format !== undefined && name !== "kvm").map(
      ({ name }) => [name],
    ),
  )("reads a pasted text of the format %s", async (name) => {
    const { page } = await open();
    await paste(page, text(MILAN, name as Parameters<typeof formatCpuid>[1]));
    await page.waitForSelector("#documents li ul li");
    const title = CPUID_FORMATS.find((one) => one.name === name)?.title ?? "";
    expect(await page.textContent("#documents")).toContain(title);
    expect(await page.textContent("#documents")).toMatch(/\d+ entries|0x7\.0:ebx sets 0x/);
  });

  test("reads a dropped binary file", async () => {
    const { page } = await open();
    const buffer = Buffer.from(formatCpuid([MILAN], "kvm"));
    await page.setInputFiles("#files", { name: "milan.bin", mimeType: "", buffer });
    await page.waitForSelector("#documents li ul li");
    expect(await page.textContent("#documents")).toContain(`${MILAN.length} entries`);
  });

  test("finds a field by the field's name in another program", async () => {
    const { page } = await open();
    await paste(page, text(MILAN, "cpuid-r"));
    await page.fill("#panel input[type=search]", "hypervisor");
    await page.check("#panel input[type=checkbox]");
    await page.locator("#decoded", { hasText: "guest_status" }).waitFor();
    expect(await page.locator("#decoded h3").count()).toBeLessThan(6);
  });

  test("finds a field by its place", async () => {
    const { page } = await open();
    await paste(page, text(MILAN, "json"));
    await page.fill("#panel input[type=search]", "0x7.0:ebx[5]");
    await page.locator("#decoded", { hasText: "avx2" }).waitFor();
    expect(await page.locator("#decoded .fields li").count()).toBe(1);
  });

  test("shows the line of a fault in the pasted text", async () => {
    const { page } = await open();
    const lines = text(MILAN, "cpuid-r").split("\n");
    const seven = lines.findIndex((line) => line.includes("0x00000007"));
    // Without SSE2, the features of leaf 7 that need SSE2 have a missing dependency.
    const broken = MILAN.with({ sse2: 0 });
    await paste(page, text(broken, "cpuid-r"));
    await page.click("#tab-lint");
    const button = page.locator("#panel .lines button").first();
    await button.click();
    await page.waitForSelector("#source-lines mark");
    const label = (await button.textContent()) ?? "";
    const marked = (await page.textContent("#source-lines mark")) ?? "";
    expect(marked.trim().split(/\s+/)[0]).toBe(label.replace("line ", ""));
    expect(marked).toContain("eax=");
    expect(seven).toBeGreaterThan(0);
  });

  test("computes the baseline of three tables and adds the baseline to the tables", async () => {
    const { page } = await open();
    for (const table of [MILAN, ROME, MILAN.with({ avx2: 0 })]) {
      await paste(page, text(table, "json"));
    }
    await page.locator("#documents > li").nth(2).waitFor();
    await page.click("#tab-baseline");
    await page.click("#panel .row button");
    await page.waitForSelector("#baseline .lines");
    expect(await page.textContent("#baseline")).toMatch(/The baseline of 3 tables has \d+ entries/);
    await page.click("text=Add it to the tables");
    await page.locator("#documents > li").nth(3).waitFor();
  });

  test("shows why a guest cannot continue on another host", async () => {
    const { page } = await open();
    await paste(page, text(MILAN, "json"));
    await paste(page, text(SKYLAKE, "json"));
    await page.locator("#documents > li").nth(1).waitFor();
    await page.click("#tab-portable");
    await page.waitForSelector("#panel .lines li");
    expect(await page.textContent("#panel")).toContain("cannot continue");
    expect(await page.textContent("#panel")).toContain("vendor");
  });

  test("has a list for the TSC frequency on the other host", async () => {
    const { page } = await open();
    await paste(page, text(MILAN.with({ constant_tsc: 1 }), "json"));
    await paste(page, text(MILAN.with({ constant_tsc: 1, brand_id: 1 }), "json"));
    await page.locator("#documents > li").nth(1).waitFor();
    await page.click("#tab-portable");
    await page.locator("#panel", { hasText: "if the TSC frequency is the same" }).waitFor();
    await page.getByLabel("TSC frequency there").selectOption("same");
    await page.locator("#panel", { hasText: "can continue on the second." }).waitFor();
    expect(await page.locator("#panel .lines .bad").count()).toBe(0);
  });

  test("opens a link whose fragment contains a table", async () => {
    const first = await open();
    await paste(first.page, text(MILAN, "json"));
    await first.page.click("#tab-convert");
    const href = (await first.page.getAttribute("#link", "href")) ?? "";
    const { page } = await open({ hash: href.slice(href.indexOf("#")) });
    await page.waitForSelector("#documents li ul li");
    expect(await page.textContent("#documents")).toContain(`${MILAN.length} entries`);
  });

  test("converts a table into another format, from which the same table is read", async () => {
    const { page } = await open();
    await paste(page, text(MILAN, "json"));
    await page.click("#tab-convert");
    await page.selectOption("#panel select >> nth=1", "cpuid-r");
    await page.locator("#converted", { hasText: "eax=" }).waitFor();
    const shown = (await page.textContent("#converted")) ?? "";
    expect(shown.trim()).toBe(text(MILAN, "cpuid-r").trim());
  });

  test("shows one fault for 2 MB of garbage, and blocks its thread for less than 100 ms", async () => {
    const { page } = await open();
    const session = await page.context().newCDPSession(page);
    // The limit is CPU time of the thread, which other programs of this machine do not change.
    await session.send("Performance.enable", { timeDomain: "threadTicks" });
    const worked = async (): Promise<number> => {
      const { metrics } = await session.send("Performance.getMetrics");
      return metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN;
    };
    await page.evaluate(`
      const garbage = Array.from({ length: 2 ** 21 }, (_, i) => String.fromCharCode(33 + ((i * 7919) % 90))).join("");
      globalThis.pasted = new DataTransfer();
      pasted.setData("text", garbage);
    `);
    const before = await worked();
    await page.evaluate(`
      document.querySelector("#paste").dispatchEvent(
        new ClipboardEvent("paste", { clipboardData: pasted, cancelable: true, bubbles: true }),
      );
    `);
    await page.locator("#documents", { hasText: "none of the formats" }).waitFor();
    expect((await worked()) - before).toBeLessThan(FREEZE);
  });

  test("shows markup in a document as text", async () => {
    const { page, errors } = await open();
    await paste(page, '<img src=x onerror="document.title=1"> {"entries": "<b>"}');
    await page.waitForSelector("#documents > li");
    expect(await page.locator("#documents img").count()).toBe(0);
    expect(errors).toEqual([]);
  });

  test.each([[400], [1600]])("fits a screen that is %i pixels wide in each view", async (width) => {
    const { page } = await open({ width });
    await paste(page, text(MILAN, "json"));
    await paste(page, text(ROME, "json"));
    const wide: string[] = [];
    for (const tab of await page.locator("[role=tab]").all()) {
      await tab.click();
      await page.waitForTimeout(50);
      const fits = await page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth",
      );
      if (fits !== true) wide.push((await tab.textContent()) ?? "");
    }
    expect(wide).toEqual([]);
  });

  test("can switch its tabs with the keyboard", async () => {
    const { page } = await open();
    await paste(page, text(MILAN, "json"));
    await page.waitForSelector("#decoded h3");
    await page.focus("#tab-decode");
    await page.keyboard.press("ArrowRight");
    expect(await page.getAttribute("#tab-lint", "aria-selected")).toBe("true");
    await page.keyboard.press("End");
    expect(await page.getAttribute("#tab-kvm", "aria-selected")).toBe("true");
    await page.keyboard.press("ArrowRight");
    expect(await page.getAttribute("#tab-decode", "aria-selected")).toBe("true");
  });
});
