/** Computes the names of the methods that issue ioctls, for messages. */
const methods = new Map<string, string>();

/** Returns the name of the method that issues an ioctl, such as `setRegs()` for KVM_SET_REGS. */
export function methodOf(ioctl: string): string {
  const known = methods.get(ioctl);
  if (known !== undefined) return known;
  const words = ioctl.replace(/^KVM_/, "").toLowerCase();
  const made = `${words.replace(/_+([a-z0-9])/g, (_, next: string) => next.toUpperCase())}()`;
  methods.set(ioctl, made);
  return made;
}
