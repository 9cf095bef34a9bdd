// The program needs no KVM: it opens a path that does not exist, and the trace contains a step for each failed open.
import { Kvm } from "node-kvm";

for (let i = 0; i < 2000; i += 1) {
  try {
    Kvm.open("/dev/null/no-device");
  } catch (error) {
    if (error.code !== "ENOTDIR") throw error;
  }
}
process.stdout.write("done");
