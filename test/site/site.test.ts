/**
 * Tests of the documentation site. The script scripts/docs.js must generate the site without a warning, and a browser
 * reads the site from file://. Every internal link must have a target, the search must work, and each page must fit a
 * narrow screen.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { brokenLinks, brokenResults, pagesOf } from "./links.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BROWSER = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const NARROW = { width: 400, height: 800 };
// The script is a string because it uses the page's global variables.
const WIDTH = "document.documentElement.scrollWidth";
const folder = mkdtempSync(join(tmpdir(), "node-kvm-site-"));
const site = join(folder, "site");

const docs = (out: string) =>
  spawnSync(process.execPath, ["scripts/docs.js", "--out", out], { cwd: ROOT, encoding: "utf8" });

beforeAll(() => {
  const { status, stderr, stdout } = docs(site);
  expect({ status, stderr: stderr + stdout.replace(/.*html generated at.*\n/, "") }).toEqual({
    status: 0,
    stderr: "",
  });
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

const pageOf = (name: string): string => readFileSync(join(site, name), "utf8");

test("every public entry of package.json is a module of the site", () => {
  const { name, exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    readonly name: string;
    readonly exports: Readonly<Record<string, unknown>>;
  };
  const entries = Object.keys(exports).filter((entry) => typeof exports[entry] !== "string");
  const files = entries.map((entry) => `modules/${join(name, entry).replaceAll("/", "_")}.html`);
  expect(files.filter((file) => !existsSync(join(site, file)))).toEqual([]);
});

test("every link within the site leads to a page and an anchor that exist", () => {
  expect(pagesOf(site).length).toBeGreaterThan(300);
  expect(brokenLinks(site)).toEqual([]);
});

test("every result of the site's search leads to a page and an anchor that exist", () => {
  expect(brokenResults(site)).toEqual([]);
});

test("the @ioctl tag of a method links to the ioctl's section in KVM's manual", () => {
  expect(pageOf("classes/node-kvm.Vcpu.html")).toMatch(
    /KVM_SET_CPUID2<\/code> \(<a href="https:\/\/docs\.kernel\.org\/virt\/kvm\/api\.html#kvm-set-cpuid"[^>]*>api\.rst 4\.20<\/a>; vcpu; KVM_CAP_EXT_CPUID\)/,
  );
});

test("the site's index by ioctl contains each of the 119 pairs of ioctl and descriptor", () => {
  expect(pageOf("documents/Index_by_ioctl.html").match(/<tr>\s*<td>/g)).toHaveLength(119);
});

test("the site's index by errno contains calls and causes", () => {
  const page = pageOf("documents/Index_by_errno.html");
  expect(page.match(/<h2 id="e[a-z0-9]+"/g)?.length).toBeGreaterThan(20);
  expect(page).toMatch(/<td><code>open<\/code><\/td>\s*<td>[^<]*another hypervisor/);
});

describe.skipIf(!existsSync(BROWSER))(
  `the documentation site in a browser (skipped without ${BROWSER})`,
  () => {
    let browser: Browser;
    let page: Page;
    /** Lists each error message once, without the address of its page. */
    const complaints = new Set<string>();

    beforeAll(async () => {
      const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];
      browser = await chromium.launch({ executablePath: BROWSER, args });
      page = await browser.newPage({ viewport: NARROW });
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type()))
          complaints.add(message.text().replaceAll(/file:\S*/g, "file:…"));
      });
      page.on("pageerror", (error) => complaints.add(error.message));
    });

    afterAll(async () => {
      await browser.close();
    });

    const addressOf = (name: string): string => pathToFileURL(join(site, name)).href;
    const open = (name: string) => page.goto(addressOf(name));

    test("finds setCpuid2, and the first result is the method's documentation", async () => {
      await open("index.html");
      await page.click("#tsd-search-trigger");
      await page.fill("#tsd-search-input", "setCpuid2");
      await page.waitForSelector("#tsd-search-results li");
      const results = await page.locator("#tsd-search-results li").allInnerTexts();
      expect(results[0]).toContain("setCpuid2");
      await page.click("#tsd-search-results li a");
      await page.waitForURL(/Vcpu\.html#setcpuid2$/);
      expect(await page.isVisible("#setcpuid2")).toBe(true);
    });

    test("finds words of a guide", async () => {
      await open("index.html");
      await page.click("#tsd-search-trigger");
      await page.fill("#tsd-search-input", "bisection");
      await page.waitForSelector("#tsd-search-results li");
      const results = await page.locator("#tsd-search-results li").allInnerTexts();
      expect(results).toContainEqual(expect.stringContaining("The lab"));
    });

    test("has no page that is wider than 400 pixels", async () => {
      // Scripts are off because they take most of the time and change nothing in the layout except for the closed menu.
      const context = await browser.newContext({ viewport: NARROW, javaScriptEnabled: false });
      const names = pagesOf(site).values();
      const wide: string[] = [];
      const measure = async () => {
        const still = await context.newPage();
        for (const name of names) {
          await still.goto(addressOf(name));
          const width = await still.evaluate<number>(WIDTH);
          if (width > NARROW.width) wide.push(`${name}: ${width}`);
        }
      };
      await Promise.all([measure(), measure(), measure()]);
      expect(wide).toEqual([]);
    }, 600_000);

    test("has no error on the main pages, which do not become wider when scripts run", async () => {
      const names = pagesOf(site).filter((name) => /^(classes|documents|modules)\//.test(name));
      const wide: string[] = [];
      for (const name of ["index.html", ...names]) {
        await open(name);
        if ((await page.evaluate<number>(WIDTH)) > NARROW.width) wide.push(name);
      }
      expect(wide).toEqual([]);
      expect(Array.from(complaints)).toEqual([]);
    });
  },
);

test("the check of the site finds a planted broken link, anchor and image", () => {
  const small = join(folder, "small");
  mkdirSync(join(small, "sub"), { recursive: true });
  writeFileSync(
    join(small, "index.html"),
    '<a href="sub/a.html#there">x</a> <a href="sub/a.html#none">x</a> <a href="none.html">x</a>',
  );
  writeFileSync(
    join(small, "sub/a.html"),
    '<h1 id="there">x</h1> <a href="../index.html">x</a> <img src="none.png"> <a href="https://example.org/">x</a>',
  );
  expect(brokenLinks(small)).toEqual([
    "index.html: sub/a.html#none",
    "index.html: none.html",
    "sub/a.html: none.png",
  ]);
});
