/**
 * The command that judges files of claims that are not part of the suite. The command shares its modules with
 * `node-kvm/test`.
 */
// These imports load all modules that a claim may import, before the lab saves the machine that runs the claims.
import "./index.ts";
import "../abi/index.ts";
import "../cpuid/index.ts";
import "../trace/index.ts";
import { runBundle } from "./main.ts";

// The process exits explicitly, because an open timer or handle of a file of claims would keep it running.
process.exit(await runBundle(process.argv.slice(2)));
