/**
 * Runs the user's own claims. claim-bundle.ts bundles the files of claims into one program, which runs in a separate
 * process on this host or in the lab's guests. suite/run.ts judges the claims in that process.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { packageFolder } from "../package.ts";
import { containsPattern, type Result } from "../report/result.ts";
import { bundleClaims, type ClaimBundle } from "./claim-bundle.ts";
import { findClaimFiles } from "./claim-files.ts";
import { CommandError } from "./failure.ts";

const RUNNER = join(packageFolder(), "dist", "suite", "run.js");

/** With source maps, errors name lines of the user's files instead of lines of the bundled module. */
const NODE_OPTIONS = ["--enable-source-maps"];

/** The time in milliseconds that a process of claims has to end after a signal. */
const END_MS = 3000;

/** The user's files of claims, which are bundled and loaded only once. */
export class OwnClaims implements Disposable {
  /** The names of the claims, `id: sentence`, in the order of the files. */
  readonly names: readonly string[];
  /** The text of the program, as the lab passes it to its guests. */
  readonly program: string;
  readonly #folder: string;

  private constructor(folder: string, bundles: readonly ClaimBundle[]) {
    this.#folder = folder;
    this.program = textOf(bundles, () => "");
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(packageFolder(), join(folder, "node_modules", "node-kvm"));
    writeFileSync(
      this.#path,
      textOf(bundles, ({ sourceMap }) => sourceMap),
    );
    this.names = listClaims(this.#path);
  }

  /**
   * Bundles the files at these paths, and lists their claims.
   *
   * @throws {@link CommandError} in one line: a file is missing, has a syntax error or a forbidden import, throws when it
   *   is loaded, or defines no claim; two claims have one name.
   */
  static async load(paths: readonly string[]): Promise<OwnClaims> {
    const bundles: ClaimBundle[] = [];
    for (const file of findClaimFiles(paths)) bundles.push(await bundleClaims(file));
    const folder = mkdtempSync(join(tmpdir(), "node-kvm-claims-"));
    const remove = (): void => rmSync(folder, { recursive: true, force: true });
    process.once("exit", remove);
    try {
      return new OwnClaims(folder, bundles);
    } catch (error) {
      remove();
      throw error;
    }
  }

  get #path(): string {
    return join(this.#folder, "program.json");
  }

  /** Counts the claims whose names contain a pattern; counts all claims if there is no pattern. */
  count(pattern: string | undefined): number {
    return this.names.filter((name) => containsPattern(name, pattern)).length;
  }

  /**
   * Judges the claims on this host's KVM.
   *
   * @param onResult - a function that is called with each result immediately.
   * @returns a description of a problem outside of the claims, if the process ended before it had judged all claims.
   */
  async judge(
    pattern: string | undefined,
    env: Readonly<Record<string, string>>,
    onResult: (result: Result) => void,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const expected = this.count(pattern);
    if (expected === 0 || signal.aborted) return undefined;
    const child = spawn(
      process.execPath,
      [
        ...NODE_OPTIONS,
        RUNNER,
        `--program=${this.#path}`,
        "--print=lines",
        ...(pattern === undefined ? [] : [`--pattern=${pattern}`]),
      ],
      { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } },
    );
    let timer: NodeJS.Timeout | undefined;
    const kill = (): void => {
      child.kill("SIGTERM");
      timer = setTimeout(() => child.kill("SIGKILL"), END_MS);
    };
    signal.addEventListener("abort", kill, { once: true });
    let judged = 0;
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      const result = parsed(line);
      if (!isResult(result)) return;
      judged += 1;
      onResult(result);
    });
    const [status, end] = (await once(child, "close")) as [number | null, string | null];
    signal.removeEventListener("abort", kill);
    clearTimeout(timer);
    if (signal.aborted || judged === expected) return undefined;
    const how = end === null ? `status ${status}` : `signal ${end}`;
    return `the process of the claims ended with ${how} after ${judged} of ${expected} claims`;
  }

  /** Removes the program's files. */
  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * Rejects `--start warm`: such a machine judged the suite's claims before it was saved, but a user's own claims are
 * passed to each run.
 *
 * @throws {@link CommandError}
 */
export function refuseWarm(own: OwnClaims | undefined, start: string | undefined): void {
  if (own === undefined || start !== "warm") return;
  throw new CommandError(
    "--start warm is only for the suite's claims; use --start saved with a file",
  );
}

function textOf(bundles: readonly ClaimBundle[], after: (bundle: ClaimBundle) => string): string {
  const files = bundles.map((bundle) => ({
    name: bundle.name,
    code: bundle.code + after(bundle),
  }));
  return JSON.stringify({ files });
}

function listClaims(program: string): readonly string[] {
  const { status, stdout, stderr, error } = spawnSync(
    process.execPath,
    [...NODE_OPTIONS, RUNNER, `--program=${program}`, "--list"],
    { encoding: "utf8", maxBuffer: 2 ** 24, env: { ...process.env, NODE_OPTIONS: "" } },
  );
  const names = status === 0 ? (parsed(stdout) as readonly string[] | undefined) : undefined;
  if (names !== undefined) return names;
  const line = /^(?:node-kvm|\w*Error): (.*)/m.exec(stderr)?.[1];
  const reason =
    line ?? error?.message ?? `the process that loads the claims ended with status ${status}`;
  throw new CommandError(line === undefined ? `the claims cannot be listed: ${reason}` : reason);
}

/** Whether a line is a result, and not other JSON that a claim has written to descriptor 1. */
function isResult(value: unknown): value is Result {
  const { id, title, verdict } = Object(value) as Readonly<Record<string, unknown>>;
  return [id, title, verdict].every((text) => typeof text === "string");
}

/** Parses JSON; returns `undefined` for any other text, such as text that a claim has written to descriptor 1. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
