// Numbers as people read them.

/** A share as per cent, with two digits at least: 73.5, 100, 0.42, 0.003; "-" where there is none. */
export function percent(value: number | null): string {
  if (value === null) return "-"
  const shown = 100 * value
  return shown >= 10 && shown < 99.95 ? shown.toFixed(1) : String(Number(shown.toPrecision(2)))
}
