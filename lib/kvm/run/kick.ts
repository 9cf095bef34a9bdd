/** Interrupts a vCPU from another thread. The other thread has only the vCPU's token. */
import { native } from "../../native.ts";
import { refused } from "../refused.ts";

/**
 * Interrupts the current run of a vCPU of this process, on any thread; if the vCPU does not run, interrupts its next
 * run. The run returns `{ kind: "intr" }`. `token` is the vCPU's {@link Vcpu.kickToken}.
 *
 * @returns false if no vCPU has the token, or if the vCPU was closed.
 * @throws {@link KvmError} tgkill's `EAGAIN`: the signal queue of this user is full (RLIMIT_SIGPENDING), and no
 *   standard signal is unused. The current run then continues, and the next run ends immediately.
 */
export function kickVcpu(token: bigint): boolean {
  const answer = native().kickVcpu(token);
  if (typeof answer === "boolean") return answer;
  throw refused({ call: answer.call, label: "vcpu", errno: answer.errno });
}
