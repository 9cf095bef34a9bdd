/** What a bundled claim file imports from `vitest`: the build puts this module in vitest's place. */
export { expect } from "./expect.ts";
export { test } from "./registry.ts";
