// Parses the tag `@ioctl NAME (api.rst section; descriptor; capability; kernel)`, and links the tag to KVM's manual.
import { Converter } from "typedoc";

const MANUAL = "https://docs.kernel.org/virt/kvm/api.html";

/**
 * The sections whose anchor is not the ioctl's name, with the anchors of Sphinx (from Linux 6.12's built
 * documentation).
 */
const ANCHORS = {
  KVM_GET_MSR_INDEX_LIST: "kvm-get-msr-index-list-kvm-get-msr-feature-index-list",
  KVM_GET_MSR_FEATURE_INDEX_LIST: "kvm-get-msr-index-list-kvm-get-msr-feature-index-list",
  KVM_GET_DIRTY_LOG: "kvm-get-dirty-log-vm-ioctl",
  KVM_CLEAR_DIRTY_LOG: "kvm-clear-dirty-log-vm-ioctl",
  KVM_REGISTER_COALESCED_MMIO: "kvm-un-register-coalesced-mmio",
  KVM_UNREGISTER_COALESCED_MMIO: "kvm-un-register-coalesced-mmio",
  KVM_GET_DEVICE_ATTR: "kvm-set-device-attr-kvm-get-device-attr",
  KVM_SET_DEVICE_ATTR: "kvm-set-device-attr-kvm-get-device-attr",
  KVM_SET_CPUID2: "kvm-set-cpuid",
};

/** Returns the address of an ioctl's section in KVM's manual. @param {string} ioctl */
export function sectionOf(ioctl) {
  return `${MANUAL}#${ANCHORS[ioctl] ?? ioctl.toLowerCase().replaceAll("_", "-")}`;
}

/** The descriptors of the tags, and their names in gen/facts/kvm-ioctls.tsv. */
const DESCRIPTORS = { "/dev/kvm": "sys", vm: "vm", vcpu: "vcpu", device: "dev" };

/** Splits the text of an `@ioctl` tag; throws if the text has another form. @param {string} text */
export function parseTag(text) {
  const [, ioctl, inside] = /^(KVM_[A-Z0-9_]+) \((.*)\)$/.exec(text.trim()) ?? [];
  const parts = inside?.split("; ") ?? [];
  const fd = parts.map((part) => DESCRIPTORS[part]).find((name) => name !== undefined);
  if (ioctl === undefined || fd === undefined) throw new Error(`@ioctl ${text}: unknown form`);
  return {
    ioctl,
    fd,
    section: /^api\.rst ([\d.]+)/.exec(parts[0])?.[1],
    capability: parts.find((part) => part.startsWith("KVM_CAP_")),
  };
}

/**
 * Lists the `@ioctl` tags of the public classes, each with its method.
 *
 * @param {import("typedoc").ProjectReflection} project
 */
export function tagsOf(project) {
  return Object.values(project.reflections).flatMap((reflection) =>
    (reflection.comment?.getTags("@ioctl") ?? []).map((tag) => ({
      tag,
      method: reflection.isSignature() ? reflection.parent : reflection,
      ...parseTag(tag.content.map(({ text }) => text).join("")),
    })),
  );
}

/** Turns the section in each tag into a link. @param {import("typedoc").Application} application */
export function linkSections(application) {
  application.converter.on(
    Converter.EVENT_RESOLVE_END,
    ({ project }) => {
      for (const { tag, ioctl } of tagsOf(project)) {
        const text = tag.content.map((part) => part.text).join("");
        const link = text.replace(
          /api\.rst [\d.]+/,
          (section) => `[${section}](${sectionOf(ioctl)})`,
        );
        tag.content = [{ kind: "text", text: link.replace(ioctl, `\`${ioctl}\``) }];
      }
    },
    -200,
  );
}
