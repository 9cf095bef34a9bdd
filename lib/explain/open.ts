/** Why a KVM device could not be opened, and what to do about it. */

const DO_ABOUT_OPEN: Readonly<Record<number, (path: string) => string>> = {
  1: (path) => `${path} may not be opened here: a container or a security module forbids it`,
  2: (path) =>
    `${path} does not exist: load the module (modprobe kvm_amd or kvm_intel); if that fails, ` +
    "switch on virtualisation in the firmware or, inside a virtual machine, nested virtualisation",
  6: (path) => `${path} has no driver behind it: load the module (modprobe kvm_amd or kvm_intel)`,
  13: (path) =>
    `no permission for ${path}: add the user to the device's group ` +
    "(usermod -aG kvm USER, then log in again)",
  16: (path) => `${path} is busy: another hypervisor has the CPU's virtualisation; stop it first`,
  19: (path) => `${path} has no driver behind it: load the module (modprobe kvm_amd or kvm_intel)`,
  25: (path) => `${path} is not KVM: it does not answer KVM_GET_API_VERSION`,
};

/** Says why open() failed with this errno, and the remedy; `undefined` when we do not know. */
export function explainOpen(path: string, errno: number): string | undefined {
  return DO_ABOUT_OPEN[errno]?.(path);
}
