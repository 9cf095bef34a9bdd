/** The names of the methods for ioctls, which messages use. */
const methods = new Map<string, string>();

/** Returns the name of an ioctl's method, for messages: KVM_SET_REGS is `setRegs()`. */
export function methodOf(ioctl: string): string {
  const known = methods.get(ioctl);
  if (known !== undefined) return known;
  const words = ioctl.replace(/^KVM_/, "").toLowerCase();
  const made = `${words.replace(/_+([a-z0-9])/g, (_, next: string) => next.toUpperCase())}()`;
  methods.set(ioctl, made);
  return made;
}
