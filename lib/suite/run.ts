/**
 * The program that judges files of claims other than the suite's. The program shares its modules with `node-kvm/test`.
 */
// Loads all that a claim may import, before the machine that runs it is saved.
import "./index.ts";
import "../abi/index.ts";
import "../cpuid/index.ts";
import "../trace/index.ts";
import { runBundle } from "./main.ts";

// A timer or a handle that a file of claims has left open must not keep the process from ending.
process.exit(await runBundle(process.argv.slice(2)));
