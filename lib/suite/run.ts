/** The program that judges files of claims other than the suite's. It shares its modules with `node-kvm/test`. */
// Loads all that a claim may import, before the machine that runs it is saved.
import "./index.ts";
import "../abi/index.ts";
import "../cpuid/index.ts";
import "../trace/index.ts";
import { runBundle } from "./main.ts";

process.exitCode = await runBundle(process.argv.slice(2));
