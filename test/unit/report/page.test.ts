/** Tests of the matrix page in a real browser: filter, details, keyboard, and no overflow at 400 and 1600 pixels. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toHtml } from "../../../lib/report/html.ts";
import { type Column, toMatrix } from "../../../lib/report/matrix.ts";
import type { Result, Verdict } from "../../../lib/report/result.ts";

const BROWSER = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const KERNELS = ["5.10.0-32", "6.1.0-56", "6.12.107", "6.16.12", "6.17.13", "7.2.13", "7.3-rc7"];
const CLAIMS = [
  ["resend-original", 49, "a vCPU that has run accepts the table that it was given"],
  ["change-feature", 51, "a vCPU that has run refuses a changed feature <and keeps it>"],
  ["silent-cr4", 61, "the same table is accepted after KVM_SET_SREGS toggled CR4.OSXSAVE"],
] as const;

const LATE = "EINVAL: only bits that KVM itself sets differ: 0x1.0:ecx[27] osxsave";
const verdictOf = (kernel: string, id: string): Verdict =>
  id === "silent-cr4" && kernel === "6.17.13" ? "fail" : "pass";

const column = (kernel: string): Column => ({
  name: `${kernel} max`,
  warnings: [],
  report: {
    kernel,
    vendor: "kvm_amd",
    results: CLAIMS.map(([id, number, title]): Result => {
      const verdict = verdictOf(kernel, id);
      return {
        id,
        title,
        number,
        verdict,
        reason: verdict === "fail" ? LATE : undefined,
        duration: 1,
      };
    }),
  },
});

describe.skipIf(!existsSync(BROWSER))(
  `the HTML page of a matrix, in a browser (skipped without ${BROWSER}),`,
  () => {
    const folder = mkdtempSync(join(tmpdir(), "node-kvm-page-"));
    let browser: Browser;
    let page: Page;

    beforeAll(async () => {
      const file = join(folder, "matrix.html");
      writeFileSync(file, toHtml(toMatrix(KERNELS.map(column)), "2026-11-23"));
      const args = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ];
      browser = await chromium.launch({ executablePath: BROWSER, args });
      page = await browser.newPage();
      await page.goto(pathToFileURL(file).href);
    }, 60_000);

    afterAll(async () => {
      await browser.close();
      rmSync(folder, { recursive: true });
    });

    test("runs only its own script and its own style sheet", async () => {
      // Incomplete escaping of the claims' texts would create these elements.
      const ran = await page.evaluate(`(async () => {
      const script = document.createElement("script");
      script.textContent = "window.injected = 1";
      document.body.append(script);
      const add = (html) => document.body.insertAdjacentHTML("beforeend", html);
      add("<img src=x onerror='window.injected = 2'>");
      add("<p id=styled style='color: rgb(255, 0, 0)'>x</p>");
      await new Promise((resolve) => setTimeout(resolve, 100));
      const { color } = getComputedStyle(document.getElementById("styled"));
      const own = document.getElementById("shown").textContent;
      return { injected: "injected" in window, isRed: color === "rgb(255, 0, 0)", own };
    })()`);
      expect(ran).toEqual({ injected: false, isRed: false, own: "3 claims" });
    });

    const visibleClaims = (): Promise<string[]> =>
      page.locator("tbody tr:visible th b").allTextContents();

    test("lists first the kernels whose claims fail", async () => {
      expect(await page.locator(".kernels .broken").allInnerTexts()).toEqual([
        expect.stringMatching(/6\.17\.13 max.*1 fail.*silent-cr4/s),
      ]);
    });

    test("shows only the claims whose text or reason contains the filter's words", async () => {
      await page.fill("#filter", "OSXSAVE ecx[27]");
      expect(await visibleClaims()).toEqual(["silent-cr4"]);
      expect(await page.textContent("#shown")).toBe("1 of 3 claims");
      await page.fill("#filter", "");
      expect(await visibleClaims()).toHaveLength(3);
    });

    test("can show only the claims whose verdicts differ", async () => {
      await page.check("#differing");
      expect(await visibleClaims()).toEqual(["silent-cr4"]);
      await page.uncheck("#differing");
    });

    test("opens the details of a cell on a click, and closes them on Escape", async () => {
      await page.click('button[aria-label="silent-cr4 on 6.17.13 max: FAILS"]');
      expect(await page.textContent("#detail-title")).toBe("silent-cr4 on 6.17.13 max");
      expect(await page.textContent("#detail-reason")).toBe(LATE);
      await page.keyboard.press("Escape");
      expect(await page.isVisible("#detail")).toBe(false);
    });

    test("moves the focus with the arrow keys, and opens the cell on Enter", async () => {
      await page.focus("tbody tr:first-child td:nth-child(2) button");
      for (const key of ["ArrowDown", "ArrowRight", "Enter"]) await page.keyboard.press(key);
      expect(await page.textContent("#detail-title")).toBe("change-feature on 6.1.0-56 max");
      expect(await page.textContent("#detail-claim")).toBe(CLAIMS[1][2]);
      await page.keyboard.press("Escape");
    });

    test.each([400, 1600])("has no horizontal overflow at %i pixels", async (width) => {
      await page.setViewportSize({ width, height: 900 });
      // The script is a string because it uses the page's global variables.
      const [content, window] = await page.evaluate<[number, number]>(
        "[document.documentElement.scrollWidth, innerWidth]",
      );
      expect(content).toBeLessThanOrEqual(window);
      expect(await page.locator("tbody td button").first().isVisible()).toBe(true);
    });

    test("follows the dark mode of the system", async () => {
      const back = (): Promise<string> =>
        page.evaluate("getComputedStyle(document.body).backgroundColor");
      await page.emulateMedia({ colorScheme: "light" });
      const light = await back();
      await page.emulateMedia({ colorScheme: "dark" });
      expect(await back()).not.toBe(light);
    });
  },
);
