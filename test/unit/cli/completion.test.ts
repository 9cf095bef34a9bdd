/** Tests of shell completion: each script runs in its shell, if this host has the shell. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, type TestContext, test, vi } from "vitest";
import { temporaryFolder } from "../lab/temporary.ts";
import { command } from "./command.ts";

vi.setConfig({ testTimeout: 60_000 });

/**
 * The commands with which each shell completes a line; `$1` is the script, and the other arguments are the words of the
 * line.
 */
const SHELLS = {
  bash: `script=$1; shift; source "$script"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _node_kvm
    printf '%s\\n' "\${COMPREPLY[@]}"`,
  zsh: `script=$1; shift; compdef() { }; compadd() { shift; print -l -- "$@" }; _files() { print FILES }
    source "$script"; words=("$@"); CURRENT=$#; _node_kvm`,
  fish: `source $argv[1]; complete -C (string join ' ' -- $argv[2..]) | string replace -r '\\t.*' ''`,
} as const;
type Shell = keyof typeof SHELLS;

const scripts = new Map<Shell, string>();

/** Returns the shell's suggestions for the last word. */
function complete(
  shell: Shell,
  words: readonly string[],
  { skip }: TestContext,
): readonly string[] {
  skip(spawnSync(shell, ["-c", "true"]).status !== 0, `there is no ${shell}`);
  const script = scripts.get(shell) ?? command(["completion", shell]).stdout;
  scripts.set(shell, script);
  const path = join(temporaryFolder(), shell);
  writeFileSync(path, script);
  const name = shell === "fish" ? [] : ["test"];
  const ran = spawnSync(shell, ["-c", SHELLS[shell], ...name, path, ...words], {
    encoding: "utf8",
  });
  expect(ran.stderr).toBe("");
  const last = words.at(-1) ?? "";
  // zsh filters the suggestions itself.
  return ran.stdout.split("\n").filter((word) => word !== "" && word.startsWith(last));
}

describe.each(Object.keys(SHELLS) as readonly Shell[])("the shell completion for %s", (shell) => {
  test.for<[words: readonly string[], expected: readonly string[]]>([
    [["node-kvm", "te"], ["test"]],
    [
      ["node-kvm", "lab", ""],
      ["kernels", "run", "exec", "bisect", "build-bochs", "cache", "--help"],
    ],
    [["node-kvm", "lab", "run", "--st"], ["--start"]],
    [
      ["node-kvm", "lab", "run", "--start", ""],
      ["saved", "boot", "warm"],
    ],
    [["node-kvm", "lab", "run", "--kernel", "6.12", "--rep"], ["--reporter"]],
    [
      ["node-kvm", "completion", ""],
      ["bash", "zsh", "fish", "--help"],
    ],
  ])("completes the words %j", ([words, expected], context) => {
    expect(complete(shell, words, context).toSorted()).toEqual(expected.toSorted());
  });

  test("suggests no option of node-kvm after --, where the guest's command begins", (context) => {
    const words = ["node-kvm", "lab", "exec", "--kernel", "6.12", "--", "--"];
    expect(complete(shell, words, context)).toEqual([]);
  });
});
