/** The identity of a descriptor in traces, and the ring of its calls. */
import type { Ioctl } from "../abi/ioctl.ts";
import type { ObjectKind, ObjectRef } from "./record.ts";
import { Ring } from "./ring.ts";

/** The kinds of objects that a call creates together with a new descriptor. */
const MADE: Readonly<Record<string, ObjectKind>> = {
  KVM_CREATE_VM: "vm",
  KVM_CREATE_VCPU: "vcpu",
  KVM_CREATE_DEVICE: "dev",
  KVM_GET_STATS_FD: "stats",
  KVM_CREATE_GUEST_MEMFD: "memfd",
};

let last = 0;

/** The identity of a descriptor in traces. */
export class Traced implements ObjectRef {
  /**
   * The members of the identity that steps contain. Steps do not contain the ring, because the ring of /dev/kvm would
   * otherwise reference the rings of all VMs.
   */
  readonly ref: ObjectRef & { label: string };
  /** The ring of the last calls: a VM shares it with all objects that were created from the VM. */
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

  /** Sets another label, also in steps that are already stored. */
  set label(label: string) {
    this.ref.label = label;
  }

  /** Creates the identity of an object that a call on this descriptor creates. */
  child(ioctl: Ioctl): Traced {
    const kind = MADE[ioctl.name] ?? "other";
    return new Traced(kind, kind, kind === "vm" ? new Ring() : this.ring);
  }
}
