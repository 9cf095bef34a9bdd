/** A descriptor's identity in traces, and whose ring its calls go to. */
import type { Ioctl } from "../abi/ioctl.ts";
import type { ObjectKind, ObjectRef } from "./record.ts";
import { Ring } from "./ring.ts";

/** What a call that returns a descriptor makes. */
const MADE: Readonly<Record<string, ObjectKind>> = {
  KVM_CREATE_VM: "vm",
  KVM_CREATE_VCPU: "vcpu",
  KVM_CREATE_DEVICE: "dev",
  KVM_GET_STATS_FD: "stats",
  KVM_CREATE_GUEST_MEMFD: "memfd",
};

let last = 0;

/** A descriptor as traces know it. */
export class Traced implements ObjectRef {
  /** What a step keeps of it: not the ring, else that of /dev/kvm would keep those of all its VMs. */
  readonly ref: ObjectRef & { label: string };
  /** The last calls: a VM shares them with all that was made from it. */
  readonly ring: Ring;

  /** Gives a descriptor its id. */
  constructor(kind: ObjectKind, label: string, ring: Ring = new Ring()) {
    last += 1;
    this.ref = { id: last, kind, label };
    this.ring = ring;
  }

  /** {@link ObjectRef.id}. */
  get id(): number {
    return this.ref.id;
  }

  /** {@link ObjectRef.kind}. */
  get kind(): ObjectKind {
    return this.ref.kind;
  }

  /** {@link ObjectRef.label}. */
  get label(): string {
    return this.ref.label;
  }

  /** Gives it another label, in the steps that were kept, too. */
  set label(label: string) {
    this.ref.label = label;
  }

  /** The object that a call on this one has made. */
  child(ioctl: Ioctl): Traced {
    const kind = MADE[ioctl.name] ?? "other";
    return new Traced(kind, kind, kind === "vm" ? new Ring() : this.ring);
  }
}
