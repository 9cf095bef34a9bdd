/** Orders of stages, and the stages that most orders begin and end with. life.js has the stages. */
import { type Ending, runNode } from "./run-node.ts";

/** The ways in which workers end. */
export type End = "naturally" | "throwing" | "terminated" | "abandoned";
/** A stage of life.js, or workers that have their own orders. */
export type Stage = string | { readonly workers: readonly Order[]; readonly end: End };
/** The stages of an order. */
export type Order = readonly Stage[];

/** Runs an order in a separate process. */
export const live = (order: Order, node?: readonly string[]): Promise<Ending> =>
  runNode("life.js", JSON.stringify(order), node);

/** A vCPU that has not run. */
export const MADE = ["kvm", "vm", "memory", "slot", "vcpu"] as const;
/** A vCPU that has. */
export const RAN: Order = [...MADE, "run"];
/** All of it, closed. */
export const CLOSE = ["close vcpu", "close vm", "close memory", "close kvm"] as const;
