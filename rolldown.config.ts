/**
 * How dist/ is made of lib/: a file for each entry of package.json, and what they share. As a file
 * for each module it took three times as long to load. Its types are made by tsc.
 */
import { defineConfig, type RolldownOptions } from "rolldown";
import manifest from "./package.json" with { type: "json" };

const entries = Object.values(manifest.exports).flatMap((entry) =>
  typeof entry === "string" ? [] : [entry.default],
);
const names = [...entries, ...Object.values(manifest.bin)].map((file) =>
  file.replace(/^(\.\/)?dist\//, "").replace(/\.js$/, ""),
);

const config: RolldownOptions = defineConfig({
  input: Object.fromEntries(names.map((name) => [name, `lib/${name}.ts`])),
  external: ["commander", "vitest/node"],
  platform: "node",
  transform: { target: "es2023" },
  output: { dir: "dist", chunkFileNames: "shared/[name].js" },
});

export default config;
