/**
 * Closes memory again and again without a turn of the event loop: `node --expose-gc closed-memory.js`. The program
 * needs no KVM.
 */
import assert from "node:assert/strict";
import { GuestMemory } from "node-kvm";

// The addresses of closed memory stay mapped until Node finalizes the buffer of this memory in a later turn of the
// event loop.
assert.throws(
  () => {
    for (;;) {
      const memory = GuestMemory.allocate(4096);
      assert.equal(memory.bytes.length, 4096);
      memory.close();
    }
  },
  { name: "KvmError", call: "mmap", code: "ENOMEM" },
);

for (let i = 0; i < 4; i += 1) {
  globalThis.gc();
  await new Promise((resolve) => setImmediate(resolve));
}
GuestMemory.allocate(4096).close();
