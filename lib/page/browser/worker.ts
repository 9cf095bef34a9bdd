/** The worker, which passes the page's requests to the engine and returns the engine's replies. */
import { createEngine, offer } from "../engine.ts";
import type { Message, Reply } from "../protocol.ts";

const engine = createEngine();
postMessage(offer());
addEventListener("message", ({ data: { id, ask } }: MessageEvent<Message>) => {
  const reply: Reply = engine(id, ask);
  postMessage(reply);
});
