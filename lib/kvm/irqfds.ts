/** The VMs of this process that each eventfd is connected to (KVM_IRQFD), because no ioctl returns them. */
import type { IrqfdPlace } from "../explain/index.ts";

/** The part of a VM that this file needs. */
interface Owner {
  readonly closed: boolean;
}

const owners = new WeakMap<object, WeakRef<Owner>[]>();

const isObject = (file: unknown): file is object => typeof file === "object" && file !== null;

/** Registers that an eventfd was connected to a VM, or with `isOff` disconnected. */
export function noteIrqfd(file: unknown, vm: Owner, isOff: boolean): void {
  if (!isObject(file)) return;
  const others = (owners.get(file) ?? []).filter((owner) => owner.deref() !== vm);
  owners.set(file, isOff ? others : [...others, new WeakRef(vm)]);
}

/**
 * Returns the VM that an eventfd is connected to; `undefined` if that VM's handle is closed, because KVM may still keep
 * the connection.
 */
export function irqfdPlace(file: unknown, vm: Owner): IrqfdPlace | undefined {
  const found = isObject(file) ? (owners.get(file) ?? []) : [];
  const vms = found.map((owner) => owner.deref());
  if (vms.includes(vm)) return "here";
  if (vms.some((one) => one?.closed === false)) return "elsewhere";
  return vms.length === 0 ? "nowhere" : undefined;
}
