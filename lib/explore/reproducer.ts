/** Executes a sequence on new handles while its calls are recorded, and exports the recording as C. */
import { cpus, release } from "node:os";
import { Kvm, vendorModule } from "../index.ts";
import { type CStyle, exportC, record } from "../trace/index.ts";
import { KvmSubject, type Watchdog } from "./kvm-subject.ts";
import type { Sequence } from "./operation.ts";
import type { Disagreement, PlayOptions } from "./play.ts";
import { play } from "./play.ts";

/** The name and the answers of the sequence. */
export interface ReproducerAbout {
  readonly name: string;
  readonly predicted: string;
  readonly observed: string;
  /** The style of the C file; `program` if omitted. */
  readonly style?: CStyle;
}

/** A recorded replay. */
export interface Reproducer {
  /** The C file. */
  readonly c: string;
  /** The disagreement of the replay; undefined if the replay agreed with the model. */
  readonly disagreement: Disagreement | undefined;
}

/** Replays a sequence, and exports its calls as C. */
export function reproducer(
  sequence: Sequence,
  options: Omit<PlayOptions, "subject">,
  about: ReproducerAbout,
  watchdog?: Watchdog,
): Reproducer {
  using recording = record();
  let disagreement: Disagreement | undefined;
  {
    using kvm = Kvm.open();
    using subject = new KvmSubject(kvm, watchdog);
    disagreement = play(sequence, { ...options, subject });
  }
  const trace = recording.stop({
    name: about.name,
    sentence: "KVM answers as the model of its CPUID life cycle predicts",
    verdict: "fails",
    reason: `The last operation: the model predicts ${about.predicted}; KVM answered ${about.observed}.`,
    kernel: release(),
    vendor: vendorModule(),
    cpu: cpus()[0]?.model,
  });
  const { style = "program" } = about;
  return { c: exportC(trace, { style }), disagreement };
}
