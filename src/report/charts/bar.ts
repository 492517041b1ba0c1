// Bars from left to right, one below the other: names stand before them and numbers behind, so that nothing hangs on colour.
import { type Html, html } from "../html.ts"
import { fitText, label, linearScale, logScale, picture, place, soft, textWidth, xAxis } from "./axes.ts"

export interface Bar {
  readonly label: string
  readonly value: number
  /** A few words behind the number. */
  readonly note?: string
  /** What the value may be as well: a line with ends over the bar. */
  readonly interval?: readonly [low: number, high: number]
}

export interface BarChartOptions {
  readonly title: string
  /** What the bars count: "per cent", "pixels". */
  readonly unit: string
  readonly bars: readonly Bar[]
  /** An axis of powers of ten, for values that differ by factors; a value of 0 has no bar then. */
  readonly log?: boolean
}

const WIDTH = 440
const ROW = 21
const TOP = 24

/** Nothing without bars. */
export function barChart({ title, unit, bars, log = false }: BarChartOptions): Html {
  if (bars.length === 0) return html``
  const ends = bars.flatMap(({ value, interval = [value, value] }) => [value, ...interval])
  const above = ends.filter((value) => value > 0)
  const widest = (texts: readonly string[], most: number) => Math.min(most, Math.max(...texts.map(textWidth)))
  const left =
    10 +
    widest(
      bars.map(({ label }) => label),
      140,
    )
  const right =
    WIDTH -
    12 -
    widest(
      bars.map(({ value, note }) => (note === undefined ? label(value) : `${label(value)}  ${note}`)),
      150,
    )
  const bottom = TOP + bars.length * ROW
  const range = [left, right] as const
  const isLog = log && above.length > 0
  const scale = isLog
    ? logScale([Math.min(...above) / 2, Math.max(...above)], range) // half: the smallest has a bar too
    : linearScale([Math.min(0, ...ends), Math.max(0, ...ends)], range, { count: 3 })
  const x = (value: number) => place(isLog ? (value > 0 ? Math.max(left, scale.at(value)) : left) : scale.at(value))
  const zero = isLog ? left : x(0)

  const grid = scale.ticks.map(
    (tick) =>
      html`<line x1="${place(scale.at(tick))}" x2="${place(scale.at(tick))}" y1="${TOP}" y2="${bottom}" stroke="var(--line)"/>`,
  )
  const rows = bars.map(({ label: name, value, note, interval }, k) => {
    const y = TOP + k * ROW
    const end = x(value)
    const behind = Math.max(zero, end, interval ? x(interval[1]) : 0) + 6
    const whisker = interval && [x(interval[0]), x(interval[1])]
    const middle = y + ROW / 2
    return html`<g><title>${name}: ${label(value)} ${unit}</title>
<text x="${left - 8}" y="${y + 15}" text-anchor="end">${fitText(name, left - 10)}</text>
<rect x="${Math.min(zero, end)}" y="${y + 3}" width="${place(Math.abs(end - zero))}" height="${ROW - 6}" fill="var(--c1)" fill-opacity="${whisker ? 0.55 : 0.85}"/>
${whisker && html`<path d="M${whisker[0]} ${middle}H${whisker[1]}M${whisker[0]} ${middle - 4}v8M${whisker[1]} ${middle - 4}v8" stroke="currentColor" fill="none"/>`}
<text x="${behind}" y="${y + 15}">${label(value)}${note && html`<tspan dx="6" color="var(--soft)">${note}</tspan>`}</text></g>`
  })
  return picture(
    { title, width: WIDTH, height: bottom + 36 },
    grid,
    xAxis({ left, right, top: TOP, bottom }, { ...scale, axis: { name: unit } }),
    rows,
    isLog && scale.ticks.length > 1 ? [soft(html`x="${left}" y="${bottom + 31}"`, "powers of ten")] : [],
  )
}
