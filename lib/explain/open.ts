/** Why a KVM device could not be opened, and what to do about it. */

/** KVM's own device: only of this path is it known that a module makes it. */
const DEVICE = "/dev/kvm";

/** Says how to get a driver behind a path, as far as the path and the loaded modules show it. */
function driverOf(path: string, vendor: string | undefined): string {
  if (path !== DEVICE) return "name KVM's device, which is /dev/kvm";
  return vendor === undefined
    ? "load the module (modprobe kvm_amd or kvm_intel)"
    : `the module ${vendor} is loaded, so the device is missing here only: give it to this container`;
}

const DO_ABOUT_OPEN: Readonly<Record<number, (path: string, vendor?: string) => string>> = {
  1: (path) => `${path} may not be opened here: a container or a security module forbids it`,
  2: (path, vendor) =>
    `${path} does not exist: ${driverOf(path, vendor)}` +
    (path === DEVICE && vendor === undefined
      ? "; if that fails, switch on virtualisation in the firmware or, inside a virtual machine, " +
        "nested virtualisation"
      : ""),
  6: (path, vendor) => `${path} has no driver behind it: ${driverOf(path, vendor)}`,
  13: (path) =>
    `no permission for ${path}: add the user to the device's group ` +
    "(usermod -aG kvm USER, then log in again)",
  16: (path) => `${path} is busy: another hypervisor has the CPU's virtualisation; stop it first`,
  19: (path, vendor) => `${path} has no driver behind it: ${driverOf(path, vendor)}`,
  25: (path) => `${path} is not KVM: it does not answer KVM_GET_API_VERSION`,
};

/**
 * Says why open() failed with this errno, and the remedy; `undefined` when we do not know.
 *
 * @param vendor - the loaded vendor module, such as `kvm_amd`; none when left out.
 */
export function explainOpen(path: string, errno: number, vendor?: string): string | undefined {
  return DO_ABOUT_OPEN[errno]?.(path, vendor);
}
