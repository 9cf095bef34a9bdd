/** Tests of the errors for JavaScript programs that create handles with `new`. The tests need no device. */
import { expect, test } from "vitest";
import { Device, EventFd, GuestMemory, Kvm, SevDevice, Vcpu, Vm } from "../../../lib/index.ts";

test.each([
  [Kvm, "Kvm.open()"],
  [Vm, "kvm.createVm()"],
  [Vcpu, "vm.createVcpu()"],
  [Device, "vm.createDevice()"],
  [GuestMemory, "GuestMemory.allocate()"],
  [EventFd, "EventFd.create()"],
  [SevDevice, "SevDevice.open()"],
])("new %o() throws an error that names the method to use", (made, how) => {
  expect(() => Reflect.construct(made, [])).toThrow(TypeError);
  expect(() => Reflect.construct(made, [])).toThrow(`new ${made.name}(): use `);
  expect(() => Reflect.construct(made, [])).toThrow(how);
});
