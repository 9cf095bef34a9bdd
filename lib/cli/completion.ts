/**
 * `node-kvm completion`: scripts that complete the command line in a shell, generated from commander's tree of
 * commands.
 */
import type { Command } from "commander";
import { COMPLETION_BASH, COMPLETION_FISH, COMPLETION_ZSH } from "./generated/texts.ts";

/** The name of a shell that has a completion script. */
export type Shell = "bash" | "zsh" | "fish";

/** The shells that have a completion script. */
export const SHELLS: readonly Shell[] = ["bash", "zsh", "fish"];

const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: COMPLETION_BASH,
  zsh: COMPLETION_ZSH,
  fish: COMPLETION_FISH,
};

/** Returns the script that completes the program's commands, their options, and the values of options. */
export function completion(program: Command, shell: Shell): string {
  const table = rowsOf(program, program.name()).join("\n");
  return SCRIPTS[shell].replaceAll("@NAME@", program.name()).replace("@TABLE@", () => table);
}

/**
 * Returns one line for each command and for each option with values. For example, `lab run|words` contains the words
 * that may follow the command, and `lab run --start|words` the values of the option.
 */
function rowsOf(command: Command, path: string): readonly string[] {
  const help = command.createHelp();
  const options = help.visibleOptions(command).flatMap((option) => {
    const { long } = option;
    return long === undefined || long === null ? [] : [{ ...option, long }];
  });
  const commands = command.commands.map((below) => below.name());
  const values = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
  const row = (name: string, words: readonly string[]): string => `${name}|${words.join(" ")}`;
  return [
    row(path, [...commands, ...values, ...options.map(({ long }) => long)]),
    ...options
      .filter(({ required, optional }) => required || optional)
      .map(({ long, argChoices }) => row(`${path} ${long}`, argChoices ?? [])),
    ...command.commands.flatMap((below) => rowsOf(below, `${path} ${below.name()}`)),
  ];
}
