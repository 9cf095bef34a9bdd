/** Debian's version numbers: compares them (deb-version(7)), and extracts the Linux version. */

/** Compares two versions as dpkg does: negative if `a` is older. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [split(a), split(b)];
  for (const [i, text] of left.entries()) {
    const order = compareParts(text, right[i] ?? "");
    if (order !== 0) return order;
  }
  return 0;
}

/** Returns the Linux version of a package's version: `6.12.43` of `6.12.43-1~bpo12+1`. */
export function linuxVersion(version: string): string {
  return version.replace(/-[^-]*$/, "").replace("~rc", "-rc");
}

function split(version: string): readonly [epoch: string, upstream: string, revision: string] {
  const [, epoch = "0", upstream = "", revision = "0"] =
    /^(?:(\d+):)?(.*?)(?:-([^-]*))?$/.exec(version) ?? [];
  return [epoch, upstream, revision];
}

/**
 * Compares two versions element by element; in an element that is not a number, `~` sorts before the end of the text.
 */
function compareParts(a: string, b: string): number {
  const [left, right] = [tokens(a), tokens(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i += 1) {
    const [x = "", y = ""] = [left[i], right[i]];
    const order = i % 2 === 0 ? compareWords(x, y) : Number(x) - Number(y);
    if (order !== 0) return order;
  }
  return 0;
}

/** Splits `"7.3~rc7"` into `["", "7", ".", "3", "~rc", "7"]`: the elements at even positions are not numbers. */
function tokens(text: string): readonly string[] {
  const found = text.match(/\d+|\D+/g) ?? [];
  return /^\d/.test(text) ? ["", ...found] : found;
}

function compareWords(a: string, b: string): number {
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    const order = rank(a[i]) - rank(b[i]);
    if (order !== 0) return order;
  }
  return 0;
}

function rank(character: string | undefined): number {
  if (character === undefined) return 0;
  if (character === "~") return -1;
  return character.charCodeAt(0) + (/[a-z]/i.test(character) ? 0 : 256);
}
