/**
 * Records the VMs of this process to which each eventfd is connected (KVM_IRQFD), because no ioctl returns these
 * connections.
 */
import { isBytes } from "../abi/bytes.ts";
import { KVM_IRQFD_FLAG_DEASSIGN } from "../abi/generated/constants.ts";
import { Irqfd } from "../abi/generated/structs.ts";
import { read } from "../abi/struct.ts";
import type { IrqfdPlace } from "../explain/index.ts";

/** The members of a VM that this file uses. */
interface Owner {
  readonly closed: boolean;
}

const owners = new WeakMap<object, WeakRef<Owner>[]>();

const isObject = (file: unknown): file is object => typeof file === "object" && file !== null;

/** Records an accepted KVM_IRQFD of a VM: `argument` is its `struct kvm_irqfd`. */
export function recordIrqfd(vm: Owner, file: unknown, argument: unknown): void {
  if (!isObject(file) || !isBytes(argument)) return;
  const isOff = (read(Irqfd, argument).flags & KVM_IRQFD_FLAG_DEASSIGN) !== 0;
  const others = (owners.get(file) ?? []).filter((owner) => owner.deref() !== vm);
  owners.set(file, isOff ? others : [...others, new WeakRef(vm)]);
}

/**
 * Returns the VM to which an eventfd is connected; `undefined` if that VM's handle is closed, although KVM may still
 * keep the connection.
 */
export function irqfdPlace(file: unknown, vm: Owner): IrqfdPlace | undefined {
  const found = isObject(file) ? (owners.get(file) ?? []) : [];
  const vms = found.map((owner) => owner.deref());
  if (vms.includes(vm)) return "here";
  if (vms.some((one) => one?.closed === false)) return "elsewhere";
  return vms.length === 0 ? "nowhere" : undefined;
}
