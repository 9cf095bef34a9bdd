/** Which VMs of this process each eventfd raises interrupts of (KVM_IRQFD), which KVM cannot be asked. */
import type { IrqfdPlace } from "../explain/index.ts";

/** A VM, as far as this file needs it. */
interface Owner {
  readonly closed: boolean;
}

const owners = new WeakMap<object, WeakRef<Owner>[]>();

const isObject = (file: unknown): file is object => typeof file === "object" && file !== null;

/** Notes that a VM has taken an eventfd, or with `isOff` given it back. */
export function noteIrqfd(file: unknown, vm: Owner, isOff: boolean): void {
  if (!isObject(file)) return;
  const others = (owners.get(file) ?? []).filter((owner) => owner.deref() !== vm);
  owners.set(file, isOff ? others : [...others, new WeakRef(vm)]);
}

/** Says whose interrupt an eventfd raises; `undefined` when a VM that took it is closed, which KVM may still keep. */
export function irqfdPlace(file: unknown, vm: Owner): IrqfdPlace | undefined {
  const found = isObject(file) ? (owners.get(file) ?? []) : [];
  const vms = found.map((owner) => owner.deref());
  if (vms.includes(vm)) return "here";
  if (vms.some((one) => one?.closed === false)) return "elsewhere";
  return vms.length === 0 ? "nowhere" : undefined;
}
