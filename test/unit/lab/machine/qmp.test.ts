/**
 * Tests of QEMU's monitor: each response is matched with its command, even if other lines arrive before the response.
 */
import { Duplex, PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { Monitor } from "../../../../lib/lab/machine/qmp.ts";

/** Creates a monitor, with functions that read the monitor's commands and write QEMU's responses. */
function connected(): {
  monitor: Monitor;
  sent: () => string;
  answer: (text: string) => void;
  stream: Duplex;
} {
  const [from, to] = [new PassThrough(), new PassThrough()];
  const stream = Duplex.from({ readable: from, writable: to });
  const sent = (): string => String(to.read() ?? "");
  return { monitor: new Monitor(stream), sent, answer: (text) => void from.write(text), stream };
}

test("QMP responses are returned in the order of the commands, even with a greeting, events and split lines between them", async () => {
  const { monitor, answer } = connected();
  const answers = [monitor.execute("a"), monitor.execute("b", { x: 1 })];
  answer('{"QMP": {}}\r\n{"event": "STOP"}\n{"return"');
  answer(': {"first": 1}}\n{"event": "RESUME"}\n\n{"return": {}}\n');
  expect(await Promise.all(answers)).toEqual([{ first: 1 }, {}]);
});

test("a QMP command is one line of JSON", async () => {
  const { monitor, sent, answer } = connected();
  const asked = monitor.execute("migrate", { uri: "unix:/x" });
  answer('{"return": {}}\n');
  await asked;
  expect(sent()).toBe('{"execute":"migrate","arguments":{"uri":"unix:/x"}}\n');
});

test("if QEMU rejects a QMP command, the error has QEMU's message", async () => {
  const { monitor, answer } = connected();
  const asked = monitor.execute("migrate");
  answer('{"error": {"class": "GenericError", "desc": "no such thing"}}\n');
  await expect(asked).rejects.toMatchObject({
    code: "ERR_LAB_TOOL",
    message: "QEMU refused migrate: no such thing",
  });
});

test.each(["no json", "null", "7"])(
  "the QMP connection ends after %s, which is not a message",
  async (line) => {
    const { monitor, answer } = connected();
    const asked = monitor.execute("query-migrate");
    answer(`${line}\n`);
    await expect(asked).rejects.toThrow("QEMU ended before it answered query-migrate");
  },
);

test("the QMP connection ends after a line that has no end", async () => {
  const { monitor, answer } = connected();
  const asked = monitor.execute("query-migrate");
  for (let i = 0; i < 17; i += 1) answer("x".repeat(2 ** 16));
  await expect(asked).rejects.toThrow("QEMU ended before it answered query-migrate");
});

test("after QEMU has ended, pending and later QMP commands are rejected", async () => {
  const { monitor, stream } = connected();
  const asked = monitor.execute("query-migrate");
  stream.destroy(new Error("ECONNRESET"));
  await expect(asked).rejects.toThrow("QEMU ended before it answered query-migrate");
  await expect(monitor.execute("quit")).rejects.toThrow("QEMU ended before it answered quit");
});
