// The program needs no KVM: each failed open of a file that is not a device is a step of the trace.
import { Kvm } from "node-kvm";

for (let i = 0; i < 2000; i += 1) {
  try {
    Kvm.open("/dev/null/no-device");
  } catch (error) {
    if (error.code !== "ENOTDIR") throw error;
  }
}
process.stdout.write("done");
