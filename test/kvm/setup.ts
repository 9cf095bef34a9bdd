/** Registers the suite's known deviations; it runs before every file of claims. */
import { registerDeviations } from "node-kvm/test";
import { deviations } from "./deviations.ts";

registerDeviations(deviations);
