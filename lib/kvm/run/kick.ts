/** Interrupts a vCPU from another thread, by its token. */
import { native } from "../../native.ts";
import { refused } from "../refused.ts";

/**
 * Interrupts the current run of a vCPU of this process on any thread, or otherwise its next one; the run returns `{
 * kind: "intr" }`. `token` is the vCPU's {@link Vcpu.kickToken}.
 *
 * @returns false if no such vCPU exists, or it was closed.
 * @throws {@link KvmError} tgkill's `EAGAIN`: the signal queue of this user is full (RLIMIT_SIGPENDING), and no
 *   standard signal is unused. The current run continues; the next one ends at once.
 */
export function kickVcpu(token: bigint): boolean {
  const answer = native().kickVcpu(token);
  if (typeof answer === "boolean") return answer;
  throw refused({ call: answer.call, label: "vcpu", errno: answer.errno });
}
