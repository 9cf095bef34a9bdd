/** Orders of stages, and the stages that begin and end most orders. life.js defines the stages. */
import { type Ending, runNode } from "./run-node.ts";

/** The ways in which workers end. */
export type End = "naturally" | "throwing" | "terminated" | "abandoned";
/** A stage is the name of a function in life.js, or a list of workers with their orders. */
export type Stage = string | { readonly workers: readonly Order[]; readonly end: End };
/** An order is a list of stages. */
export type Order = readonly Stage[];

/** Runs an order in a separate process. */
export const live = (order: Order, node?: readonly string[]): Promise<Ending> =>
  runNode("life.js", JSON.stringify(order), node);

/** The stages that create a vCPU that has not run. */
export const MADE = ["kvm", "vm", "memory", "slot", "vcpu"] as const;
/** The stages that create a vCPU and run it. */
export const RAN: Order = [...MADE, "run"];
/** The stages that close every handle of {@link MADE}. */
export const CLOSE = ["close vcpu", "close vm", "close memory", "close kvm"] as const;
