// How often which values occur.
import { type Html, html } from "../html.ts"
import { axes, label, linearScale, logScale, picture, place, textWidth } from "./axes.ts"

export interface HistogramOptions {
  readonly title: string
  /** What the values are in: "pixels". */
  readonly unit: string
  readonly values: readonly number[]
  /** How many bars. Default: by the number of values; whole numbers that are few have a bar each. */
  readonly bins?: number
  /** An axis of powers of ten, with bars that are equally wide on it; values at or below 0 are left out, and the title says so. */
  readonly log?: boolean
  /** What is counted: "images". */
  readonly of?: string
}

const SIZE = { width: 440, height: 220 }
const TOP = 44
const BOTTOM = SIZE.height - 36

/** Nothing without values. */
export function histogram({ title, unit, values, bins, log = false, of = "values" }: HistogramOptions): Html {
  const counted = log ? values.filter((value) => value > 0) : values
  if (counted.length === 0) return html``
  const left = values.length - counted.length
  const { edges, isWhole } = edgesOf(counted, bins, log)
  const counts = countBetween(counted, edges)
  const yScale = linearScale([0, Math.max(...counts)], [BOTTOM, TOP], { whole: true })
  const start = 8 + Math.max(...yScale.ticks.map((tick) => textWidth(label(tick))))
  const ends = [edges[0]!, edges.at(-1)!] as const
  const span = [start, SIZE.width - 20] as const
  const xScale = log ? logScale(ends, span) : linearScale(ends, span, { round: false, whole: isWhole, count: 6 })
  const bars = counts.map((count, k) => {
    const [from, to] = [place(xScale.at(edges[k]!)), place(xScale.at(edges[k + 1]!))]
    const name = isWhole ? label(edges[k]! + 0.5) : `${label(round(edges[k]!))} to ${label(round(edges[k + 1]!))}`
    const y = place(yScale.at(count))
    return count === 0
      ? html``
      : html`<rect x="${from}" y="${y}" width="${place(Math.max(1, to - from - 1))}" height="${place(BOTTOM - y)}" fill="var(--c1)" fill-opacity="0.85"><title>${name} ${unit}: ${count} ${of}</title></rect>`
  })
  return picture(
    { title: left > 0 ? `${title} (${left} at or below 0 left out)` : title, ...SIZE },
    axes(
      { left: start, right: span[1], top: TOP, bottom: BOTTOM },
      { ...xScale, axis: { name: unit } },
      { ...yScale, axis: { name: of, unit: "number" } },
    ),
    bars,
  )
}

const MOST_WHOLE = 40 // whole numbers with a bar each
const MOST_BINS = 40

/** Where bars begin and end, one edge more than there are bars. */
function edgesOf(values: readonly number[], bins: number | undefined, log: boolean) {
  const low = values.reduce((a, b) => Math.min(a, b))
  const high = values.reduce((a, b) => Math.max(a, b))
  if (bins === undefined && !log && high - low < MOST_WHOLE && values.every(Number.isInteger)) {
    return { isWhole: true, edges: Array.from({ length: high - low + 2 }, (_, k) => low - 0.5 + k) }
  }
  const count = bins ?? Math.max(5, Math.min(MOST_BINS, Math.ceil(Math.sqrt(values.length))))
  if (low === high) return { isWhole: false, edges: log ? [low / 2, low * 2] : [low - 0.5, low + 0.5] }
  const [a, b] = log ? [Math.log(low), Math.log(high)] : [low, high]
  const edge = (k: number) => a + (k / count) * (b - a)
  const edges = Array.from({ length: count + 1 }, (_, k) => (log ? Math.exp(edge(k)) : edge(k)))
  return { isWhole: false, edges: [low, ...edges.slice(1, -1), high] }
}

/** Values on an edge belong to the bar that begins there; the last bar has its end. */
function countBetween(values: readonly number[], edges: readonly number[]): number[] {
  const counts = edges.slice(1).map(() => 0)
  for (const value of values) {
    let [from, to] = [0, counts.length - 1]
    while (from < to) {
      const middle = (from + to + 1) >> 1
      if (value >= edges[middle]!) from = middle
      else to = middle - 1
    }
    counts[from] = counts[from]! + 1
  }
  return counts
}

const round = (value: number) => Number(value.toPrecision(3))
