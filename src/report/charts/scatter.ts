// Points in a plane. Where several fall on one place the dot is larger.
import { groupBy } from "../../arrays.ts"
import { type Html, html } from "../html.ts"
import { type Axis, axes, axisTitle, label, linearScale, picture, place, textWidth } from "./axes.ts"

export interface ScatterChartOptions {
  readonly title: string
  readonly x: Axis
  readonly y: Axis
  readonly points: readonly (readonly [x: number, y: number])[]
  /** A line along which both are equal, and equal axes. */
  readonly diagonal?: boolean
}

const SIZE = { width: 440, height: 320 }
const TOP = 44
const BOTTOM = SIZE.height - 36

/** Nothing without points. */
export function scatterChart({ title, x, y, points, diagonal = false }: ScatterChartOptions): Html {
  if (points.length === 0) return html``
  const range = (values: readonly number[]) => {
    const low = values.reduce((a, b) => Math.min(a, b))
    const high = values.reduce((a, b) => Math.max(a, b))
    return [low > 0 && low < high / 2 ? 0 : low, high] as const // from 0, unless that is far away
  }
  const xs = points.map(([x]) => x)
  const ys = points.map(([, y]) => y)
  const both = diagonal ? range([...xs, ...ys]) : null
  const yScale = linearScale(both ?? range(ys), [BOTTOM, TOP])
  const left = 8 + Math.max(...yScale.ticks.map((tick) => textWidth(label(tick))))
  const right = diagonal ? left + BOTTOM - TOP : SIZE.width - 20
  const xScale = linearScale(both ?? range(xs), [left, right])
  const places = groupBy(points, ([x, y]) => `${Math.round(xScale.at(x))} ${Math.round(yScale.at(y))}`)
  const dots = [...places.values()].map((members) => {
    const [first] = members as [readonly [number, number]]
    const radius = Math.min(12, 2 + Math.sqrt(members.length)) // the area grows with their number
    const text = `${axisTitle(x)} ${label(first[0])}, ${axisTitle(y)} ${label(first[1])}${members.length > 1 ? `, and ${members.length - 1} more here` : ""}`
    return html`<circle cx="${place(xScale.at(first[0]))}" cy="${place(yScale.at(first[1]))}" r="${place(radius)}" fill="var(--c1)" fill-opacity="0.5" stroke="var(--c1)"><title>${text}</title></circle>`
  })
  const line = diagonal
    ? [html`<line x1="${left}" y1="${BOTTOM}" x2="${right}" y2="${TOP}" stroke="var(--soft)" stroke-dasharray="4 3"/>`]
    : []
  return picture(
    { title, ...SIZE, ...(diagonal && { width: right + 20 }) },
    axes({ left, right, top: TOP, bottom: BOTTOM }, { ...xScale, axis: x }, { ...yScale, axis: y }),
    line,
    dots,
  )
}
