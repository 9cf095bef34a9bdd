/** The module `vitest` of a bundled claim file: the build replaces vitest with this module. */
export { expect } from "./expect.ts";
export { test } from "./registry.ts";
