/**
 * Creates handles whose descriptor returns 0 for each ioctl, for tests of errors before a call. The handles need no
 * KVM.
 */
import { Device } from "../../../lib/kvm/device.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { Vcpu } from "../../../lib/kvm/vcpu.ts";
import { Vm } from "../../../lib/kvm/vm.ts";
import type { NativeFd, NativeRun } from "../../../lib/native.ts";

/** The handles, and the request numbers of the ioctls that reached the descriptor. */
export interface FakeHandles {
  readonly kvm: Kvm;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly device: Device;
  readonly requests: number[];
}

/** Creates a Kvm, a Vm, a Vcpu and a Device. */
export function fakeHandles(): FakeHandles {
  const requests: number[] = [];
  const run: NativeRun = {
    bytes: new ArrayBuffer(3 * 4096),
    token: 0n,
    run: () => -4,
    start: () => 0,
    kick: () => 0,
    history: () => 0,
    setFilter: () => 0,
  };
  let ended: (result: number) => void = () => undefined;
  const fd: Partial<NativeFd> = {
    mapRun: (done) => {
      ended = done;
      return run;
    },
    ioctl: (request) => {
      requests.push(request);
      return 0;
    },
    setUserMemoryRegion: () => {
      requests.push(0);
      return 0;
    },
    close: () => ended(-4),
  };
  const file = fd as NativeFd;
  const kvm = Reflect.construct(Kvm, [file, "/dev/kvm"]) as Kvm;
  const vm = new Vm(file, kvm);
  return { kvm, vm, vcpu: new Vcpu(file, 0, vm), device: new Device(file, 5), requests };
}
