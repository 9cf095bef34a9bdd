/** The claims of the suite, as the source files in test/kvm define them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

const SUITE = join(import.meta.dirname, "..", "kvm");

/** A call of `claim()` in the suite. */
export interface Claim {
  readonly number: number;
  /** In the id, `*` replaces each part that a loop inserts. */
  readonly id: string;
  readonly where: string;
}

/** Returns the id of a claim, with `*` for each part that a loop inserts. */
function idOf(node: ts.Expression | undefined): string {
  if (node === undefined) return "";
  if (ts.isStringLiteralLike(node)) return node.text;
  if (!ts.isTemplateExpression(node)) return "";
  return node.head.text + node.templateSpans.map(({ literal }) => `*${literal.text}`).join("");
}

/** Returns the number in the options of a claim. */
function numberOf(options: ts.Expression | undefined): number {
  return Number(/^\{ number: (\d+)/.exec(options?.getText() ?? "")?.[1]);
}

/** Lists the claims of a file. */
export function claimsOf(name: string, text: string): readonly Claim[] {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found: Claim[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && node.expression.getText() === "claim") {
      const [id, , options] = node.arguments;
      const line = source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
      found.push({ number: numberOf(options), id: idOf(id), where: `${name}:${line}` });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const files = readdirSync(SUITE).filter((name) => name.endsWith(".test.ts"));
/** The claims of the suite. */
export const claims: readonly Claim[] = files.flatMap((name) =>
  claimsOf(name, readFileSync(join(SUITE, name), "utf8")),
);

const literally = (text: string): string => text.replaceAll(/[^\w-]/g, "\\$&");
/** Returns whether an id, in which `*` stands for each part that a loop inserts, can be the id of a claim. */
export const covers = (pattern: string, id: string): boolean =>
  new RegExp(`^${pattern.split("*").map(literally).join("[a-z0-9-]+")}$`).test(id);
