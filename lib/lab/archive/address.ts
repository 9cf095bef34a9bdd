/** Finds the address of Debian's package archive, in this machine's apt configuration or in an option of the user. */

import { LabError } from "../error.ts";
import { runOk } from "../process/command.ts";

/** The address of an archive. */
export interface ArchiveAddress {
  /** The URI of the archive above `dists/` and `pool/`. */
  readonly main: string;
  /** The URI of the archive for security updates; `undefined` if this machine's apt configuration contains none. */
  readonly security: string | undefined;
}

const DEBIAN_SUITE =
  /^(bullseye|bookworm|trixie|forky|duke|sid|(old)*stable|testing|unstable|experimental)([-/].*)?$/;
const SECURITY_SUITE = /-security|\/updates$/;

/**
 * Finds the Debian archive in this machine's apt configuration.
 *
 * @throws {@link LabError} `ERR_LAB_ARCHIVE` if the configuration names none.
 */
export async function configuredArchive(signal?: AbortSignal): Promise<ArchiveAddress> {
  // apt itself parses its configuration, because the configuration has several formats.
  // The option --no-release-info also lists sources that were never fetched.
  const format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
  // The query omits the package lists, because apt needs half a second to parse them.
  const lists = "Dir::State::lists=/dev/null/none";
  const args = ["indextargets", "-o", lists, "--no-release-info", "--format", format];
  const lines = String(await runOk("apt-get", args, { signal })).split("\n");
  const sources = lines
    .map((line) => line.split(" "))
    .filter(([, suite = "", component]) => component === "main" && DEBIAN_SUITE.test(suite))
    .map(([uri = "", suite = ""]) => ({ uri: uri.replace(/\/+$/, ""), suite }));
  const security = sources.find(({ suite }) => SECURITY_SUITE.test(suite))?.uri;
  const archives = sources.filter(({ suite }) => !SECURITY_SUITE.test(suite));
  // The path of the URI is also checked, because other distributions use the same suite names.
  const main = (archives.find(({ uri }) => uri.endsWith("/debian")) ?? archives[0])?.uri;
  if (main === undefined) {
    const remedy = "name an archive with --mirror, as in http://HOST/debian";
    const sentence = `this machine's apt configuration names no Debian archive; ${remedy}`;
    throw new LabError("ERR_LAB_ARCHIVE", sentence);
  }
  return { main, security: security ?? securityOf(main) };
}

/** Checks and splits a mirror's address: `http://HOST/debian`. */
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
