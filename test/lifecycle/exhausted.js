/** Opens objects without closing any until no descriptor is left; prints the error. */
import { EventFd, GuestMemory, Kvm } from "node-kvm";

const kept = [];
const lives = {
  eventfd: () => kept.push(EventFd.create()),
  memfd: () => kept.push(GuestMemory.allocate(4096, { shared: true })),
  file: () => {
    kept.push(EventFd.create());
    GuestMemory.mapFile(process.execPath).close();
  },
  "/dev/kvm": () => kept.push(Kvm.open()),
  vm: (kvm) => kept.push(kvm.createVm()),
};

const name = JSON.parse(process.argv[2]);
const kvm = name === "vm" ? Kvm.open() : undefined;
try {
  for (;;) lives[name](kvm);
} catch (error) {
  const own = kept.length + (kvm === undefined ? 0 : 1);
  const { call, code, reason } = error;
  process.stdout.write(JSON.stringify({ call, code, reason, own }));
}
