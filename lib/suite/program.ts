/**
 * A program: a JSON document that contains files of claims. cli/claim-files.ts bundles each file into one module. A
 * program can be loaded on this host and in the lab's guests, where the original files do not exist.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { packageFolder } from "../package.ts";
import { beginFile, registeredClaims } from "./registry.ts";

/** The document. */
interface ClaimProgram {
  readonly files: readonly {
    /** The path of the file in messages. */
    readonly name: string;
    /** The source text of a module that imports only `node:*` and `node-kvm/*`. */
    readonly code: string;
  }[];
}

/** Reports a file of claims that cannot be loaded, or that contains no claim. */
export class LoadError extends Error {
  override readonly name: string = "LoadError";
}

/**
 * Registers the claims of a program. The modules are written into the folder of the program, so that their imports of
 * `node-kvm` are resolved from this folder.
 *
 * @throws {@link LoadError} for a file that throws or registers no claim.
 */
export async function loadProgram(path: string): Promise<void> {
  // Output of the claims is written to standard error, because standard output must contain only the report.
  process.stdout.write = process.stderr.write.bind(process.stderr);
  const { files } = JSON.parse(readFileSync(path, "utf8")) as ClaimProgram;
  for (const [position, { name, code }] of files.entries()) {
    const before = registeredClaims().length;
    const module = join(dirname(path), `${position}.mjs`);
    writeFileSync(module, code);
    beginFile(name);
    try {
      await import(pathToFileURL(module).href);
    } catch (error) {
      throw new LoadError(`${name} cannot be loaded: ${describeError(error)}`);
    } finally {
      beginFile(undefined);
    }
    if (registeredClaims().length === before) {
      throw new LoadError(`${name} defines no claim; import claim from node-kvm/test and call it`);
    }
  }
}

/** Formats an error as one line with the file and line where it was thrown, if the stack contains them. */
function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const [message = ""] = error.message.split("\n");
  const inPackage = join(packageFolder(), "/");
  const frames = (error.stack ?? "").matchAll(/(?:[ (]|file:\/\/)(\/[^():]+):(\d+):\d+\)?$/gm);
  const place = Array.from(frames).find(([, path = ""]) => !path.startsWith(inPackage));
  return place === undefined ? message : `${message} (${place[1]}:${place[2]})`;
}
