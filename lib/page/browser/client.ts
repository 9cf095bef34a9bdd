/** The connection of the page to its worker: one promise for each request. */
import type { Answers, Ask, Offer, Reply } from "../protocol.ts";

/**
 * Sends a request to the engine, and resolves to the engine's reply. Rejects with an Error whose message the page
 * shows.
 */
export type Engine = <A extends Ask>(ask: A) => Promise<Answers[A["op"]]>;

/** Starts the worker from its source text in the page, and waits for the list of formats and profiles. */
export async function startEngine(
  text: string,
): Promise<{ readonly engine: Engine; readonly offer: Offer }> {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const worker = new Worker(url);
  const waiting = new Map<number, (reply: Reply) => void>();
  let last = 0;
  const offer = await new Promise<Offer>((resolve, reject) => {
    worker.addEventListener("message", ({ data }: MessageEvent<Offer>) => resolve(data), {
      once: true,
    });
    worker.addEventListener("error", ({ message }) => reject(new Error(message)), { once: true });
  });
  worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
    waiting.get(data.id)?.(data);
    waiting.delete(data.id);
  });
  const engine = <A extends Ask>(ask: A): Promise<Answers[A["op"]]> =>
    new Promise((resolve, reject) => {
      last += 1;
      waiting.set(last, (reply) => {
        if ("error" in reply) reject(new Error(reply.error));
        // The cast is safe, because the engine's reply to each operation has the type that protocol.ts defines for this
        // operation.
        else resolve(reply.answer as Answers[A["op"]]);
      });
      worker.postMessage({ id: last, ask });
    });
  return { engine, offer };
}
