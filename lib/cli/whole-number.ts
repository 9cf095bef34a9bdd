/** The parser of options whose value is a whole number. */
import { InvalidArgumentError } from "commander";

/** Makes the parser of a whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Use a whole number from ${least} to ${most}`);
  };
}
