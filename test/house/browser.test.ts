/** Tests that the entries without KVM run in a browser, and that every system can import them. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { createContext, runInContext } from "node:vm";
import { rolldown } from "rolldown";
import { describe, expect, test } from "vitest";
import manifest from "../../package.json" with { type: "json" };

const PROJECT = join(import.meta.dirname, "..", "..");

/** Global names that browsers define, but the JavaScript language does not define. */
const BROWSER = { atob, btoa, TextDecoder, TextEncoder };

async function bundled(room: string): Promise<string> {
  const build = await rolldown({
    input: join(PROJECT, "lib", room, "index.ts"),
    platform: "browser",
    external: /^node:/,
    onLog: () => undefined,
  });
  const { output } = await build.generate({ format: "iife", name: "room" });
  const [{ code, imports }] = output;
  expect(`lib/${room} imports ${imports.join(", ") || "nothing"}`).toBe(
    `lib/${room} imports nothing`,
  );
  return code;
}

/** Evaluates an expression on the exports of a folder of lib/, in a context without the globals of Node.js. */
async function evaluated(room: string, expression: string): Promise<unknown> {
  const context = createContext({ ...BROWSER });
  return runInContext(`${await bundled(room)};\n${expression}`, context);
}

const STATE = `{
  format: room.STATE_FORMAT, version: room.STATE_VERSION, source: { kernel: "6.12" }, vcpus: [],
}`;

describe("a browser, which has no Node.js modules,", () => {
  test.each([
    ["abi", "room.KVM_EXIT_HLT", 5],
    [
      "cpuid",
      `room.CpuidTable.from([{ function: 1, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 1 << 25 }]).has("sse")`,
      true,
    ],
    ["guest", "room.VECTORS", 32],
    ["state", `room.stateFromBytes(room.stateToBytes(${STATE})).source.kernel`, "6.12"],
    ["state", `room.stateFromJson(room.stateToJson(${STATE})).source.kernel`, "6.12"],
  ])("runs the test of lib/%s: %s", async (room, expression, value) => {
    expect(await evaluated(room, expression)).toEqual(value);
  });

  test("gets an error from the assembler, which needs Node.js", async () => {
    const program = `try { new room.Assembler(64).hlt().assemble(); } catch (error) { error.message }`;
    expect(await evaluated("guest", program)).toBe("the assembler needs Node.js");
  });
});

test("the test for browsers detects an import of a Node.js module", async () => {
  await expect(bundled("trace")).rejects.toThrow(/lib.trace imports node:/);
});

const ENTRIES = ["abi", "cpuid", "guest", "state", "trace"].filter(
  (name) => `./${name}` in manifest.exports,
);

describe.each(["darwin", "win32"])("on %s", (platform) => {
  test.each(ENTRIES)("an import of node-kvm/%s does not open the addon", (name) => {
    const program = `
      Object.defineProperty(process, "platform", { value: ${JSON.stringify(platform)} });
      process.dlopen = () => { throw new Error("a native file was loaded"); };
      console.log(Object.keys(await import("node-kvm/${name}")).length > 0);`;
    const args = ["--input-type=module", "-e", program];
    const options = { cwd: PROJECT, encoding: "utf8" } as const;
    expect(execFileSync(process.execPath, args, options)).toBe("true\n");
  });
});
