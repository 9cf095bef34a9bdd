/**
 * Which tests there are. `npm test` runs those that end in three minutes on two CPUs: all but the
 * projects lifecycle, lab and site, which are `npm run test:long`. The suite alone is `npm run test:kvm`.
 */
import { defineConfig, type ViteUserConfig } from "vitest/config";

/** A worker for each CPU; by default vitest leaves one CPU free, which is half of two. */
const EVERY_CPU = { maxWorkers: "100%", sequence: { groupOrder: 0 } };

const config: ViteUserConfig = defineConfig({
  test: {
    reporters: ["default", "./test/helpers/closing-line.ts"],
    projects: [
      {
        test: {
          ...EVERY_CPU,
          name: "unit",
          include: ["test/unit/**/*.test.ts"],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          ...EVERY_CPU,
          name: "polluted",
          include: ["test/unit/native/*.test.ts"],
          exclude: ["test/unit/native/kicks.test.ts"],
          setupFiles: ["test/helpers/pollution.ts"],
        },
      },
      {
        test: {
          ...EVERY_CPU,
          name: "house",
          include: ["test/house/**/*.test.ts"],
          testTimeout: 120_000,
        },
      },
      {
        test: {
          name: "kvm",
          // A reason must not change what the suite observes, so it looks for none.
          env: { NODE_KVM_EXPLAIN: "0" },
          include: ["test/kvm/**/*.test.ts"],
          setupFiles: ["test/kvm/setup.ts"],
          pool: "forks",
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: "lifecycle",
          include: ["test/lifecycle/**/*.test.ts"],
          pool: "forks",
          fileParallelism: false,
          // Alone: it measures what a process leaves behind.
          sequence: { groupOrder: 2 },
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: "lab",
          include: ["test/lab/**/*.test.ts"],
          // An emulated machine with one CPU keeps one CPU of the host busy.
          maxWorkers: 2,
          sequence: { groupOrder: 3 },
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          name: "site",
          include: ["test/site/**/*.test.ts"],
          sequence: { groupOrder: 4 },
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});

export default config;
