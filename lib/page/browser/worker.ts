/** The worker: answers the page's requests with the engine. */
import { createEngine, offer } from "../engine.ts";
import type { Message, Reply } from "../protocol.ts";

const engine = createEngine();
postMessage(offer());
addEventListener("message", ({ data: { id, ask } }: MessageEvent<Message>) => {
  const reply: Reply = engine(id, ask);
  postMessage(reply);
});
