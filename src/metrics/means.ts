// Shares and means of what may be undefined: null, never 0, 1 or NaN.
import { sum } from "../arrays.ts"
import type { Score } from "./scores.ts"

/** Means over the numbers; null is left out and listed, undefined left out silently. */
export function mean(values: readonly (number | null | undefined)[]): Score {
  const present = values.filter((value) => typeof value === "number")
  const leftOut = values.flatMap((value, k) => (value === null ? [k] : []))
  return { value: ratio(sum(present), present.length), leftOut }
}

/** A part of a whole, 0 to 1; null of nothing. */
export const ratio = (part: number, whole: number): number | null => (whole === 0 ? null : part / whole)
