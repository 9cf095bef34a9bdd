// What a figure may be at most, and whether it is. A limit that is not reached is said, and fails nothing.

/** At most so many times what it is held against. @param {number} most */
export const ratio = (most) => ({ kind: "ratio", most });

/** At most so many nanoseconds more than what it is held against. @param {number} most */
export const over = (most) => ({ kind: "over", most });

/** At most so many nanoseconds. @param {number} most */
export const total = (most) => ({ kind: "total", most });

/**
 * Judges a figure. Nanoseconds are meant for hardware: a lab kernel runs on an emulated CPU.
 *
 * @param {{ kind: "ratio" | "over" | "total", most: number }} limit
 * @param {{ median: number }} figure
 * @param {{ median: number } | undefined} base what it is held against
 * @param {boolean} isEmulated
 */
export function verdict(limit, figure, base, isEmulated) {
  if (limit.kind !== "ratio" && isEmulated) return "not judged: emulated";
  if (limit.kind !== "total" && base === undefined) return "not judged: nothing to hold it against";
  const value = {
    ratio: () => figure.median / base.median,
    over: () => figure.median - base.median,
    total: () => figure.median,
  }[limit.kind]();
  return value <= limit.most ? "reached" : "NOT reached";
}
