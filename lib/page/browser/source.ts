/** Shows the text of a document around a line. */
import type { DocumentView } from "../protocol.ts";
import type { Engine } from "./client.ts";
import { byId, make } from "./elements.ts";

const section = byId("source", HTMLElement);
const title = byId("source-title", HTMLHeadingElement);
const lines = byId("source-lines", HTMLPreElement);
// The element can get the focus; the keyboard then scrolls its text.
lines.tabIndex = 0;
const earlier = byId("earlier", HTMLButtonElement);
const later = byId("later", HTMLButtonElement);

/** The number of lines by which the buttons scroll. */
const STEP = 20;

byId("source-close", HTMLButtonElement).addEventListener("click", () => {
  section.hidden = true;
});

/** Shows the lines around `line`, and marks `line`. */
export async function openSource(
  engine: Engine,
  { document, name }: DocumentView,
  line: number,
): Promise<void> {
  await show(line);
  section.scrollIntoView({ block: "nearest" });
  lines.focus({ preventScroll: true });

  async function show(at: number): Promise<void> {
    const { first, lines: texts, total } = await engine({ op: "lines", document, line: at });
    title.textContent = `${name}, line ${at} of ${total}`;
    lines.replaceChildren(
      ...texts.map((text, i) => {
        const number = first + i;
        const shown = `${String(number).padStart(6)}  ${text}\n`;
        return number === line ? make("mark", {}, shown) : shown;
      }),
    );
    earlier.disabled = first === 1;
    later.disabled = first + texts.length > total;
    earlier.onclick = () => void show(Math.max(1, at - STEP));
    later.onclick = () => void show(Math.min(total, at + STEP));
    section.hidden = false;
    lines.querySelector("mark")?.scrollIntoView({ block: "nearest" });
  }
}
