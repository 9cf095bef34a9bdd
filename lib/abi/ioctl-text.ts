/**
 * Parses the descriptions of ioctls, which generated/ioctls.ts contains as text. As nested objects, the descriptions of
 * 106 ioctls took twice as long to load. ioctl.ts has the members of a description.
 */

import type { CapabilityName } from "./generated/names.ts";
import type { Direction, FdKind, Ioctl, IoctlKind } from "./ioctl.ts";
import type { Layout } from "./layout.ts";

export type { Ioctl } from "./ioctl.ts";

/** The members of an ioctl's description that most ioctls do not have. */
type Rest = Pick<Ioctl, "links" | "nullable" | "fdOffset">;

/** The members of an ioctl's description that the list of descriptors determines. */
type Availability = Pick<Ioctl, "fds" | "capability" | "since">;

/** The parsed lists of descriptors by their text, because most ioctls have one of a few texts. */
const availabilities = new Map<string, Availability>();

function availabilityOf(text: string): Availability {
  const known = availabilities.get(text);
  if (known) return known;
  const rows = text.split(", ").map((row) => row.split(" "));
  const made: Availability = {
    fds: rows.map(([fd]) => fd as FdKind),
    capability: Object.fromEntries(
      rows.map(([fd, capability]) => [
        fd,
        capability === "-" ? null : (capability as CapabilityName),
      ]),
    ),
    since: Object.fromEntries(rows.map(([fd, , since]) => [fd, since])) as Ioctl["since"],
  };
  availabilities.set(text, made);
  return made;
}

/**
 * Makes the description of an ioctl.
 *
 * @param facts name, request, kind, result, direction, size and section; `-` means no section
 * @param descriptors for each kind of descriptor: its name, the capability and the oldest kernel; `-` means no
 *   capability
 * @internal
 */
/* @__NO_SIDE_EFFECTS__ */
export function ioctlOf<T>(
  facts: string,
  descriptors: string,
  struct?: Layout<T>,
  rest?: Rest,
): Ioctl<T> {
  const [name = "", request, kind, result, direction, size, section = "-"] = facts.split(" ");
  const { fds, capability, since } = availabilityOf(descriptors);
  return {
    name,
    request: Number(request),
    fds,
    kind: kind as IoctlKind,
    result: result as Ioctl["result"],
    direction: direction as Direction,
    size: Number(size),
    ...(struct && { struct }),
    section: section === "-" ? null : section,
    capability,
    since,
    ...rest,
  };
}
