// The limits of measured figures. A figure above its limit is reported, but the benchmark does not fail.

/** Limits the ratio to the row with which a row is compared. @param {number} most */
export const ratio = (most) => ({ kind: "ratio", most });

/** Limits the difference from the row with which a row is compared, in nanoseconds. @param {number} most */
export const over = (most) => ({ kind: "over", most });

/** Limits the figure, in nanoseconds. @param {number} most */
export const total = (most) => ({ kind: "total", most });

/**
 * Judges a figure. Limits in nanoseconds apply to hardware only, because a lab kernel runs on an emulated CPU.
 *
 * @param {{ kind: "ratio" | "over" | "total", most: number }} limit
 * @param {{ median: number }} figure
 * @param {{ median: number } | undefined} base the figure of the compared row
 * @param {boolean} isEmulated
 */
export function verdict(limit, figure, base, isEmulated) {
  if (limit.kind !== "ratio" && isEmulated) return "not judged: emulated";
  if (limit.kind !== "total" && base === undefined)
    return "not judged: there is no row to compare with";
  const value = {
    ratio: () => figure.median / base.median,
    over: () => figure.median - base.median,
    total: () => figure.median,
  }[limit.kind]();
  return value <= limit.most ? "reached" : "NOT reached";
}
