// Makes the icons work in pages that are opened from file://, because such a page may not load an element of another
// file.
import { PageEvent } from "typedoc";

/**
 * Changes each icon into a reference to an element of the same page. TypeDoc's icons.js adds the icons to each page,
 * but the browser first tries to load them from icons.svg and reports an error.
 *
 * @param {import("typedoc").Application} application
 */
export function embedIcons(application) {
  application.renderer.on(PageEvent.END, (page) => {
    page.contents = page.contents?.replaceAll(/(<use href=")[^"#]*icons\.svg#/g, "$1#");
  });
}
