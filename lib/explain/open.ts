/** Explains why a file could not be opened, and names the remedy. */
import { statSync } from "node:fs";
import { known, type Reasons, type Refusal } from "./refusal.ts";
import { claim, only, open } from "./verdict.ts";

const path = ({ sent }: Refusal): string => `${sent["path"]}`;
const isKvm = (refusal: Refusal): boolean => path(refusal) === "/dev/kvm";

/** The name of the loaded vendor module, such as `kvm_amd`. */
const vendor = ({ sent }: Refusal): unknown => sent["vendor"];
const isLoaded = (refusal: Refusal): boolean => vendor(refusal) !== undefined;

/** The path and, if an environment variable contains the path, the name of the variable. */
function named(refusal: Refusal): string {
  const { variable } = refusal.sent;
  return variable === undefined ? path(refusal) : `${variable} names ${path(refusal)}, which`;
}

const MODULE = "load the module (modprobe kvm_amd or kvm_intel)";

/** Whether the file's mode allows this process to read and write the file; undefined if this is unknown. */
function isPermitted(refusal: Refusal): boolean | undefined {
  const { mode, uid, gid } = known(() => statSync(path(refusal))) ?? {};
  const self = process.geteuid?.();
  const groups = process.getgroups?.();
  if (mode === undefined || self === undefined || groups === undefined) return undefined;
  if (self === 0) return true;
  const READ_WRITE = 0o6;
  const isMember = groups.includes(gid ?? -1) || process.getegid?.() === gid;
  const shift = uid === self ? 6 : isMember ? 3 : 0;
  return ((mode >> shift) & READ_WRITE) === READ_WRITE;
}

/**
 * Formats the command that gives the user permission to open the file. The command never adds the user to root's group.
 */
function permit(refusal: Refusal): string {
  const { mode = 0o660, gid = -1 } = known(() => statSync(path(refusal))) ?? {};
  const hasGroup = (mode & 0o060) === 0o060 && gid !== 0;
  if (hasGroup) {
    return "add the user to the device's group (usermod -aG kvm USER, then log in again)";
  }
  const shown = `0${(mode & 0o777).toString(8)}`;
  const remedy = `as root: chgrp kvm ${path(refusal)} && chmod 660 ${path(refusal)}`;
  return `its mode is ${shown}, and its group (${gid}) does not help: ${remedy}`;
}

/** The causes of errors of open. */
export const OPEN: Reasons = {
  ENOENT: {
    "no module": (r) =>
      open(isKvm(r) && !isLoaded(r) ? `/dev/kvm does not exist: ${MODULE}` : undefined),
    "no device in this container": (r) =>
      open(
        isKvm(r) && isLoaded(r)
          ? `/dev/kvm does not exist, though ${vendor(r)} is loaded: give the device to this container`
          : undefined,
      ),
    "no virtualisation": (r) =>
      open(
        isKvm(r) && !isLoaded(r)
          ? "virtualisation is switched off in the firmware or, inside a virtual machine, nested virtualisation is"
          : undefined,
      ),
    "no file": (r) =>
      isKvm(r) ? undefined : only("fs/namei.c:path_openat", `${named(r)} does not exist`),
  },
  EACCES: {
    "no member of the group": (r) => {
      const isAllowed = isPermitted(r);
      return claim(
        isAllowed === undefined ? undefined : !isAllowed,
        `no permission for ${path(r)}: ${permit(r)}`,
      );
    },
    "security module": (r) =>
      open(`a security module (SELinux, AppArmor) forbids this process to open ${path(r)}`),
  },
  EPERM: {
    container: (r) => open(`a container's device rules forbid ${path(r)}`),
    "security module": () => open("a security module or a seccomp filter forbids it"),
  },
  EBUSY: {
    "another user": (r) => open(`${path(r)} is in use, and cannot be opened twice`),
  },
  ENODEV: { "no driver": driverless },
  ENXIO: { "no driver": driverless },
  ENOTTY: {
    "not KVM": (r) =>
      only(
        "kvm_dev_ioctl has KVM_GET_API_VERSION in every kernel",
        `${path(r)} is not KVM: KVM_GET_API_VERSION fails`,
      ),
  },
};

// fs/char_dev.c:chrdev_open and drivers/char/misc.c:misc_open find no driver for the device number
function driverless(r: Refusal): ReturnType<typeof only> {
  const what = isKvm(r) && !isLoaded(r) ? `: ${MODULE}` : "";
  return only("fs/char_dev.c:chrdev_open", `${path(r)} has no driver${what}`);
}
