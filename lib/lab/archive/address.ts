/** Where Debian's package archive is: as this machine's apt has it, or as the user says. */

import { LabError } from "../error.ts";
import { runOk } from "../process/command.ts";

/** Where an archive is. */
export interface ArchiveAddress {
  /** The URI below which `dists/` and `pool/` lie. */
  readonly main: string;
  /** The same of the security archive; `undefined` when there is none. */
  readonly security: string | undefined;
}

const DEBIAN_SUITE =
  /^(bullseye|bookworm|trixie|forky|duke|sid|(old)*stable|testing|unstable|experimental)([-/].*)?$/;
const SECURITY_SUITE = /-security|\/updates$/;

/**
 * Finds the Debian archive that this machine's apt is set up for.
 *
 * @throws {@link LabError} `ERR_LAB_ARCHIVE` when its configuration names none.
 */
export async function configuredArchive(signal?: AbortSignal): Promise<ArchiveAddress> {
  // apt reads its own files, of whatever form; --no-release-info also tells of lists never fetched.
  const format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
  // Without the lists of packages, which it would otherwise parse for half a second.
  const lists = "Dir::State::lists=/dev/null/none";
  const args = ["indextargets", "-o", lists, "--no-release-info", "--format", format];
  const lines = String(await runOk("apt-get", args, { signal })).split("\n");
  const sources = lines
    .map((line) => line.split(" "))
    .filter(([, suite = "", component]) => component === "main" && DEBIAN_SUITE.test(suite))
    .map(([uri = "", suite = ""]) => ({ uri: uri.replace(/\/+$/, ""), suite }));
  const security = sources.find(({ suite }) => SECURITY_SUITE.test(suite))?.uri;
  const archives = sources.filter(({ suite }) => !SECURITY_SUITE.test(suite));
  // Others than Debian use its suites' names too, but hardly its path.
  const main = (archives.find(({ uri }) => uri.endsWith("/debian")) ?? archives[0])?.uri;
  if (main === undefined) {
    const remedy = "name one with --mirror, as in http://HOST/debian";
    const sentence = `this machine's apt configuration names no Debian archive; ${remedy}`;
    throw new LabError("ERR_LAB_ARCHIVE", sentence);
  }
  return { main, security: security ?? securityOf(main) };
}

/** Takes a mirror's address, as users give it: `http://HOST/debian`. */
export function mirrorArchive(mirror: string): ArchiveAddress {
  if (!/^[a-z+]+:\/\S+$/.test(mirror)) {
    const sentence = `"${mirror}" is not a mirror's address, such as http://HOST/debian`;
    throw new LabError("ERR_LAB_ARCHIVE", sentence);
  }
  const main = mirror.replace(/\/+$/, "");
  return { main, security: securityOf(main) };
}

function securityOf(main: string): string | undefined {
  return main.endsWith("/debian") ? `${main}-security` : undefined;
}
