/** Searches `PATH` for a program, without starting it. command.ts runs programs. */
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Finds a program as a shell does; `undefined` if no folder of `PATH` contains it. */
export function onPath(program: string): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false; // the file cannot be executed, for any reason
  }
}
