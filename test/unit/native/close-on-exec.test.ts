/** Tests that each descriptor which the addon or KVM has opened is closed in child processes. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { expect, test } from "vitest";
import { KVM_DEV_TYPE_VFIO } from "../../../lib/abi/generated/constants.ts";
import {
  KVM_CREATE_DEVICE,
  KVM_CREATE_GUEST_MEMFD,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_STATS_FD,
} from "../../../lib/abi/generated/ioctls.ts";
import { isRefusal, type NativeFd, type NativeRefusal, native } from "../../../lib/native.ts";
import { asBytes, type Bench, DEVICE, deviceTest, opened, said } from "./bench.ts";

const O_CLOEXEC = 0o2000000;
const PAGE = 4096;

/**
 * Returns the file of a descriptor, or an empty list if the descriptor is closed, like the descriptor that listed the
 * folder.
 */
function fileOf(number: string): readonly string[] {
  try {
    return [readlinkSync(`/proc/self/fd/${number}`)];
  } catch {
    return [];
  }
}

/** Lists the open descriptors by number, each with its file. */
const openFiles = (): ReadonlyMap<string, string> =>
  new Map(
    readdirSync("/proc/self/fd").flatMap((number) =>
      fileOf(number).map((file) => [number, file] as const),
    ),
  );

/** Returns whether child processes inherit a descriptor, from its flags of open(2). */
function isInherited(number: string): boolean {
  const text = readFileSync(`/proc/self/fdinfo/${number}`, "latin1");
  return (Number.parseInt(/^flags:\t([0-7]+)$/m.exec(text)?.[1] ?? "", 8) & O_CLOEXEC) === 0;
}

/** Lists the files that `make` has opened, and whether child processes inherit each file. */
function madeBy(make: () => { close(): void }): readonly (readonly [string, boolean])[] {
  const before = openFiles();
  const made = make();
  const added = Array.from(openFiles()).filter(([number]) => !before.has(number));
  const found = added.map(([number, file]) => [file, isInherited(number)] as const);
  made.close();
  return found;
}

const OWN: readonly (readonly [kind: string, file: RegExp, make: () => { close(): void }])[] = [
  ["an eventfd", /eventfd/, () => opened(native().eventfd(0, 0))],
  ["a file", /null/, () => opened(native().openFile("/dev/null"))],
  ["a memfd", /memfd:node-kvm/, () => native().mapMemfd(PAGE) as { close(): void }],
];

test.each(OWN)("the descriptor of %s is closed in child processes", (_, file, make) => {
  expect(madeBy(make)).toEqual([[expect.stringMatching(file), false]]);
});

type Make = (bench: Bench) => NativeFd | NativeRefusal | number;

const OF_KVM: readonly (readonly [kind: string, file: RegExp, make: Make])[] = [
  ["/dev/kvm", /kvm/, () => native().open(DEVICE)],
  ["a VM", /kvm-vm/, ({ kvm }) => kvm.ioctl(KVM_CREATE_VM.request, 0)],
  ["a vCPU", /kvm-vcpu/, ({ vm }) => vm.ioctl(KVM_CREATE_VCPU.request, 1)],
  [
    "a device",
    /kvm-vfio/,
    ({ vm }) => vm.ioctl(KVM_CREATE_DEVICE.request, asBytes(KVM_DEV_TYPE_VFIO, 0, 0)),
  ],
  ["a VM's statistics", /kvm-vm-stats/, ({ vm }) => vm.ioctl(KVM_GET_STATS_FD.request)],
  ["a vCPU's statistics", /kvm-vcpu-stats/, ({ vcpu }) => vcpu.ioctl(KVM_GET_STATS_FD.request)],
  [
    "a guest_memfd",
    /kvm-gmem/,
    ({ vm }) => {
      const size = new Uint8Array(64);
      new BigUint64Array(size.buffer).set([BigInt(PAGE)]);
      return vm.ioctl(KVM_CREATE_GUEST_MEMFD.request, size);
    },
  ],
];

for (const [kind, file, make] of OF_KVM) {
  deviceTest(`${kind} is closed in child processes`, (bench, skip) => {
    const found = madeBy(() => {
      const made = make(bench);
      if (typeof made === "number") skip(`this kernel makes none: ${said(made)}`);
      return opened(made);
    });
    expect(found).toEqual([[expect.stringMatching(file), false]]);
  });
}

deviceTest("a child process has no descriptor of KVM's or of guest memory", (bench) => {
  const kept = OF_KVM.map(([, , make]) => make(bench)).filter(
    (made) => typeof made !== "number" && !isRefusal(made),
  ) as readonly NativeFd[];
  const shared = native().mapMemfd(PAGE) as { close(): void };
  const inherited = execFileSync("ls", ["-l", "/proc/self/fd"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"], // The descriptor of the directory listing is closed.
  });
  for (const made of [...kept, shared]) made.close();
  expect(kept.length).toBeGreaterThan(2);
  expect(inherited).toContain("->");
  expect(inherited).not.toMatch(/kvm/);
});
