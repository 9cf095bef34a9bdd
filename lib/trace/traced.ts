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
  readonly id: number;
  readonly kind: ObjectKind;
  /** The last calls: a VM shares them with all that was made from it. */
  readonly ring: Ring;
  label: string;

  /** Gives a descriptor its id. */
  constructor(kind: ObjectKind, label: string, ring: Ring = new Ring()) {
    last += 1;
    this.id = last;
    this.kind = kind;
    this.label = label;
    this.ring = ring;
  }

  /** The object that a call on this one has made. */
  child(ioctl: Ioctl): Traced {
    const kind = MADE[ioctl.name] ?? "other";
    return new Traced(kind, kind, kind === "vm" ? new Ring() : this.ring);
  }
}
