// The JavaScript loops that several questions measure.
// Like the C side, each loop checks the kind of an exit and reads its value.
import { KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_MMIO } from "node-kvm/abi";

/** Stores the values that were read; V8 then cannot remove the reads. */
export const sink = { sum: 0 };

const unexpected = (exit) => new Error(`the guest left with ${exit}`);

/** Returns the value of an exit object. @type {Readonly<Record<string, (exit: object) => number>>} */
const values = {
  io: (exit) => exit.values[0],
  mmio: (exit) => exit.data[0],
  hlt: () => 1,
};

/** A profiler's signal must not end the run. */
const THROUGH_SIGNALS = { throughSignals: true };
const EINTR = 4;

/** Measures `runSync()`, which makes one object per exit. @param {"io" | "mmio" | "hlt"} kind */
export const convenient = (kind) => (stage) => runSyncLoop(stage.sandbox().vcpu, kind);

/** @param {import("node-kvm").Vcpu} vcpu @param {"io" | "mmio" | "hlt"} kind */
export function runSyncLoop(vcpu, kind) {
  const value = values[kind];
  return (n) => {
    for (let i = 0; i < n; i++) {
      const exit = vcpu.runSync(THROUGH_SIGNALS);
      if (exit.kind !== kind) throw unexpected(exit.kind);
      sink.sum += value(exit);
    }
    return n;
  };
}

const reasons = { io: KVM_EXIT_IO, mmio: KVM_EXIT_MMIO, hlt: KVM_EXIT_HLT };

/** Reads the value of an exit from kvm_run. */
const inPlace = {
  io: (page) => page.ioValue,
  mmio: (page) => page.mmioLow & 0xff,
  hlt: () => 1,
};

/** Measures `lowLevel()`, which makes no object. @param {"io" | "mmio" | "hlt"} kind */
export const lowLevel = (kind) => (stage) => lowLevelLoop(stage.sandbox().vcpu, kind);

/** @param {import("node-kvm").Vcpu} vcpu @param {"io" | "mmio" | "hlt"} kind */
export function lowLevelLoop(vcpu, kind) {
  const page = vcpu.lowLevel();
  const [reason, value] = [reasons[kind], inPlace[kind]];
  return (n) => {
    for (let i = 0; i < n; i++) {
      let result = page.enter();
      while (result === -EINTR) result = page.enter();
      if (result !== 0 || page.exitReason !== reason) throw unexpected(page.exitReason);
      sink.sum += value(page);
    }
    return n;
  };
}

/** Measures `await run()` for each exit. @param {"io" | "mmio" | "hlt"} kind */
export const awaited = (kind) => (stage) => {
  const { vcpu } = stage.sandbox();
  const value = values[kind];
  return async (n) => {
    for (let i = 0; i < n; i++) {
      const exit = await vcpu.run();
      if (exit.kind !== kind) throw unexpected(exit.kind);
      sink.sum += value(exit);
    }
    return n;
  };
};

/** Measures `for await` over `exits()`. @param {"io" | "mmio" | "hlt"} kind */
export const iterated = (kind) => (stage) => {
  const { vcpu } = stage.sandbox();
  const value = values[kind];
  return async (n) => {
    let i = 0;
    for await (const exit of vcpu.exits()) {
      if (exit.kind !== kind) throw unexpected(exit.kind);
      sink.sum += value(exit);
      if (++i === n) break;
    }
    return n;
  };
};

/** Repeats one synchronous call. @param {(stage: object) => () => unknown} prepare */
export const repeated = (prepare) => (stage) => {
  const call = prepare(stage);
  return (n) => {
    for (let i = 0; i < n; i++) call();
    return n;
  };
};
