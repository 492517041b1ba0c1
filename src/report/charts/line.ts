// Lines over steps or time. Each line has a colour, a dash and a mark of its own, and its name at its end, or in a legend where
// names are long.
import { type Html, html } from "../html.ts"
import {
  type Axis,
  axes,
  axisTitle,
  type Box,
  color,
  dash,
  fitText,
  label,
  linearScale,
  mark,
  picture,
  place,
  textWidth,
} from "./axes.ts"

export interface Series {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
  /** Thin, pale and without a mark: the single steps behind a mean. */
  readonly faint?: boolean
  /** A mark at each point: where they are few. */
  readonly marks?: boolean
  /** Number of its colour, dash and mark. Default: its position. */
  readonly look?: number
}

export interface LineChartOptions {
  readonly title: string
  readonly x: Axis
  /** Upward from 0, or from the lowest value where that is below. */
  readonly y: Axis & {
    /** Values above are drawn at the upper edge. */
    readonly most?: number
    /** What the axis reaches at least, so that charts beside one another have the same. */
    readonly upTo?: number
  }
  readonly series: readonly Series[]
  /** One of many beside one another: less of everything; the name of a line stands at its end. */
  readonly small?: boolean
}

const SIZE = { width: 440, height: 240 }
const SMALL = { width: 190, height: 132 }
const LONGEST_NAME = 12 // characters; longer ones would take the room that the lines need
const NAME_DISTANCE = 13

/** Nothing where no series has points. */
export function lineChart({ title, x, y, series, small = false }: LineChartOptions): Html {
  const shown = series.map((one, k) => ({ ...one, look: one.look ?? k })).filter(({ points }) => points.length > 0)
  if (shown.length === 0) return html``
  const named = small || shown.length > 1
  const isLegend = named && !small && shown.some(({ name }) => name.length > LONGEST_NAME)
  const legend = isLegend ? layOutLegend(shown, SIZE.width) : { rows: 0, entries: [] }
  const size = small ? SMALL : { ...SIZE, height: SIZE.height + 18 * legend.rows }
  const names = named && !isLegend ? Math.max(...shown.map(({ name }) => textWidth(name))) + 14 : 0

  const all = shown.flatMap(({ points }) => points)
  const values = all.map(([, value]) => value)
  const high = Math.min(y.most ?? Number.POSITIVE_INFINITY, largest(values))
  const yRange = [Math.min(0, smallest(values)), Math.max(high, y.upTo ?? high)] as const
  const top = 42 + 18 * legend.rows
  const bottom = size.height - 36
  const yScale = linearScale(yRange, [bottom, top], { count: small ? 2 : 4 })
  const left = 8 + Math.max(...yScale.ticks.map((tick) => textWidth(label(tick))))
  const right = size.width - Math.max(20, names)
  const ends = [Math.min(0, smallest(all.map(([x]) => x))), largest(all.map(([x]) => x))] as const
  const round = linearScale(ends, [left, right], { round: false })
  const xScale = small ? { ...round, ticks: ends } : round // the ends are what there is room for
  const box: Box = { left, right, top, bottom }
  const at = ([step, value]: readonly [number, number]) =>
    [place(xScale.at(step)), place(yScale.at(Math.min(value, yScale.ticks.at(-1)!)))] as const

  const lines = shown.map(
    ({ points, look, faint }) =>
      html`<polyline fill="none" stroke="${color(look)}" stroke-width="${faint ? 1 : 2}"${faint ? html` stroke-opacity="0.35"` : dash(look)} points="${points.map((point) => at(point).join(",")).join(" ")}"/>`,
  )
  const marks = shown
    .filter(({ faint }) => !faint)
    .flatMap(({ name, points, look, marks }) =>
      (marks ? points : points.slice(-1)).map((point) =>
        mark(look, ...at(point), `${name}: ${label(point[1])} at ${axisTitle(x)} ${label(point[0])}`),
      ),
    )
  return picture(
    { title, ...size },
    legend.entries,
    axes(box, { ...xScale, axis: x }, { ...yScale, axis: y }),
    lines,
    marks,
    named && !isLegend
      ? endNames(
          shown.map(({ name, points }) => [name, at(points.at(-1)!)]),
          box,
        )
      : [],
  )
}

/** Names to the right of their lines' ends, moved up or down where they would lie on one another, and never onto the axis. */
function endNames(
  ends: readonly (readonly [name: string, at: readonly [x: number, y: number]])[],
  { bottom }: Box,
): Html[] {
  const placed: { x: number; y: number; width: number }[] = []
  return ends
    .toSorted(([, [, a]], [, [, b]]) => a - b)
    .map(([name, [x, end]]) => {
      const width = textWidth(name)
      const inTheWay = (y: number) =>
        placed.find(
          (other) => Math.abs(other.y - y) < NAME_DISTANCE - 1e-6 && x < other.x + other.width && other.x < x + width,
        )
      let y = end
      for (let other = inTheWay(y); other; other = inTheWay(y)) y = other.y + NAME_DISTANCE
      if (y > bottom) {
        y = end
        for (let other = inTheWay(y); other; other = inTheWay(y)) y = other.y - NAME_DISTANCE
      }
      placed.push({ x, y, width })
      return html`<text x="${place(x + 9)}" y="${place(y + 4)}">${name}</text>`
    })
}

/** Names with their line and mark below the title, in as many rows as they need. */
function layOutLegend(series: readonly (Series & { look: number })[], width: number) {
  const entries: Html[] = []
  const sample = 30
  let [left, row] = [0, 0]
  for (const { name, look, faint } of series) {
    const text = fitText(name, width - sample)
    const needed = sample + textWidth(text) + 16
    if (left > 0 && left + needed > width) [left, row] = [0, row + 1]
    const y = 28 + 18 * row
    entries.push(
      html`<line x1="${left}" x2="${left + 24}" y1="${y}" y2="${y}" stroke="${color(look)}" stroke-width="${faint ? 1 : 2}"${faint ? html` stroke-opacity="0.5"` : dash(look)}/>`,
      ...(faint ? [] : [mark(look, left + 12, y)]),
      html`<text x="${left + sample}" y="${y + 4}">${text}</text>`,
    )
    left = Math.round(left + needed)
  }
  return { rows: row + 1, entries }
}

// Math.max(...values) has room for about 100,000 arguments only.
const largest = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
const smallest = (values: readonly number[]) => values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
