/** The types of elf.js, for the tests that import it. */
export declare const TARGETS: Readonly<Record<"linux-x64" | "linuxmusl-x64", "glibc" | "musl">>;
export declare function definedNames(file: string): Set<string>;
export declare function findingsOf(
  file: string,
  library: "glibc" | "musl",
  known?: Set<string>,
): readonly string[];
export declare function prebuiltFile(root: string, target: string): string;
