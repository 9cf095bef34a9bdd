/** Tests of the matrix page in a real browser: filter, details, keyboard, and no overflow at 400 and 1600 pixels. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Evidence } from "../../../lib/report/evidence.ts";
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
const C = '#include <linux/kvm.h>\n\nint main(void)\n{\n\treturn "</pre><b>&" ? 1 : 0;\n}\n';
const EVIDENCE: Evidence = {
  calls: ['open("/dev/<img src=x>") = 0', "KVM_SET_CPUID2(vcpu 0, nent=30) = -1 EINVAL"],
  earlierCalls: 12,
  tables: {
    ...{ before: "the vCPU's table", after: "<i>passed</i>", more: 3 },
    fields: [{ name: "0x1.0:ecx[27] osxsave", before: "0", after: "<b>1</b>" }],
  },
  c: C,
};
const facts = (kernel: string) => ({
  cpu: "a CPU <with> a name",
  parameters: { "kvm.ignore_msrs": "N", "kvm_amd.nested": kernel === "7.2.13" ? "1" : "0" },
  capabilities: { KVM_CAP_XCRS: 1, KVM_CAP_XEN_HVM: 0 },
});
const verdictOf = (kernel: string, id: string): Verdict =>
  id === "silent-cr4" && kernel === "6.17.13" ? "fail" : "pass";

const column = (kernel: string): Column => ({
  name: `${kernel} max`,
  warnings: [],
  report: {
    kernel,
    vendor: "kvm_amd",
    host: facts(kernel),
    results: CLAIMS.map(([id, number, title]): Result => {
      const verdict = verdictOf(kernel, id);
      return {
        id,
        title,
        number,
        verdict,
        reason: verdict === "fail" ? LATE : undefined,
        duration: 1,
        ...(verdict === "fail" ? { evidence: EVIDENCE } : {}),
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

    test("shows the fields, the calls and the C file of a failed claim, with markup as text", async () => {
      const finding = page.locator("#findings .finding");
      expect(await finding.count()).toBe(1);
      expect(await finding.locator("summary").first().textContent()).toBe(
        "✗ silent-cr4 on 6.17.13 max: FAILS",
      );
      expect(await finding.locator(".bits thead th").allTextContents()).toEqual([
        ...["Field", "the vCPU's table", "<i>passed</i>"],
      ]);
      expect(await finding.locator(".bits tbody").textContent()).toBe(
        "0x1.0:ecx[27] osxsave0<b>1</b>",
      );
      expect(await finding.locator("h3").allTextContents()).toEqual([
        "CPUID fields that differ: 4",
        "Calls: 2, after 12 earlier calls",
      ]);
      expect(await finding.locator(".calls").textContent()).toBe(EVIDENCE.calls.join("\n"));
      expect(await finding.locator(".c pre").textContent()).toBe(C);
      expect(await page.locator("#findings img, #findings i").count()).toBe(0);
    });

    test("opens the C file with the keyboard and copies it", async () => {
      await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
      await page.focus(".finding .c summary");
      expect(await page.isVisible(".finding .copy")).toBe(false);
      await page.keyboard.press("Enter");
      await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      await page.locator(".copy", { hasText: "Copied" }).waitFor();
      expect(await page.evaluate("navigator.clipboard.readText()")).toBe(C);
    });

    test("selects the C file if the clipboard cannot be written", async () => {
      await page.evaluate("navigator.clipboard.writeText = () => Promise.reject(new Error())");
      await page.click(".copy");
      await page.locator(".copy", { hasText: "Selected" }).waitFor();
      expect(await page.evaluate("getSelection().toString()")).toBe(C.trimEnd());
    });

    test("goes from a failed cell, and from the card of its kernel, to the evidence", async () => {
      const isOpen = (): Promise<boolean> =>
        page.evaluate('document.querySelector(".finding").open');
      const close = (): Promise<void> =>
        page.evaluate('document.querySelector(".finding").open = false');
      await close();
      await page.click(".kernels .broken a");
      await expect.poll(isOpen).toBe(true);
      await close();
      await page.click('button[aria-label="silent-cr4 on 6.17.13 max: FAILS"]');
      await page.click("#detail-evidence");
      await expect.poll(isOpen).toBe(true);
      expect(await page.isVisible("#detail")).toBe(false);
      expect(await page.evaluate("document.activeElement.textContent")).toContain("silent-cr4");
      await page.click('button[aria-label="silent-cr4 on 7.2.13 max: holds"]');
      expect(await page.isVisible("#detail-evidence")).toBe(false);
      await page.keyboard.press("Escape");
    });

    test("compares the facts of the hosts, and marks those that differ", async () => {
      await page.click("#hosts summary");
      expect(await page.locator("#hosts .differs th").allTextContents()).toEqual([
        "kernel",
        "kvm_amd.nested",
      ]);
      expect(
        await page.locator("#hosts tbody tr", { hasText: "CPU" }).first().textContent(),
      ).toContain("a CPU <with> a name");
      expect(
        await page.locator("#hosts tr", { hasText: "KVM_CAP_XEN_HVM" }).textContent(),
      ).toContain("missing");
    });

    test("states how to get the calls of claims that hold", async () => {
      expect(await page.textContent("#findings .legend")).toContain("--repro-all");
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
