/** Orders of stages, and the stages that most orders begin and end with. The stages are life.js. */
import { type Ending, runNode } from "./run-node.ts";

/** How workers end. */
export type End = "naturally" | "throwing" | "terminated" | "abandoned";
/** A stage of life.js, or workers that live their own orders. */
export type Stage = string | { readonly workers: readonly Order[]; readonly end: End };
/** The stages of a life. */
export type Order = readonly Stage[];

/** Lives an order in a process of its own. */
export const live = (order: Order, node?: readonly string[]): Promise<Ending> =>
  runNode("life.js", JSON.stringify(order), node);

/** A vCPU that has not run. */
export const MADE = ["kvm", "vm", "memory", "slot", "vcpu"] as const;
/** A vCPU that has. */
export const RAN: Order = [...MADE, "run"];
/** All of it, closed. */
export const CLOSE = ["close vcpu", "close vm", "close memory", "close kvm"] as const;
