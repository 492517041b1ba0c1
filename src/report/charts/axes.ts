// What charts share: round numbers, scales, axes with their units, and looks that are told apart without colour. A chart is
// SVG whose colours are the page's variables (html.ts), so that it follows the page into the dark and onto paper.
import { type Html, html } from "../html.ts"

/** What an axis counts, and in what: { name: "mean IoU", unit: "per cent" }. */
export interface Axis {
  readonly name: string
  /** Left out where the name says it all: "step". */
  readonly unit?: string
}

export const axisTitle = ({ name, unit }: Axis): string => (unit === undefined ? name : `${name} (${unit})`)

/** Values to places in the picture. */
export interface Scale {
  readonly at: (value: number) => number
  /** Round numbers within the scale. */
  readonly ticks: readonly number[]
}

/** In SVG units. */
export interface Box {
  readonly left: number
  readonly right: number
  readonly top: number
  readonly bottom: number
}

export const FONT_SIZE = 12

/** About how wide a text is in FONT_SIZE. Nobody knows without the font; 7 is English in DejaVu Sans, the widest of the usual ones. */
export const textWidth = (text: string): number => 7 * text.length

/** A text that fits into a width, its end cut off where it is too long. */
export function fitText(text: string, width: number): string {
  const most = Math.max(1, Math.floor(width / textWidth("x")))
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`
}

/** About so many round numbers, the first at or below `low`, the last at or above `high`. */
export function ticks(low: number, high: number, { count = 4, whole = false } = {}): number[] {
  const rough = (high - low) / count || 1
  const power = 10 ** Math.floor(Math.log10(rough))
  const factors = whole ? [1, 2, 5, 10] : [1, 2, 2.5, 5, 10]
  const round = factors.find((factor) => factor * power >= rough * 0.999)! * power
  const step = whole ? Math.max(1, round) : round
  const first = Math.floor(low / step + 1e-9)
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9))
  return Array.from({ length: last - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(12)))
}

/**
 * A scale from `low` to `high`.
 * @param round whether it is extended to round numbers
 */
export function linearScale(
  [low, high]: readonly [number, number],
  [from, to]: readonly [number, number],
  { round = true, count = 4, whole = false } = {},
): Scale {
  const all = ticks(low, high, { count, whole })
  const [first, last] = round ? [all[0]!, all.at(-1)!] : [low, high > low ? high : low + 1]
  const at = (value: number) => from + ((value - first) / (last - first)) * (to - from)
  return { at, ticks: all.filter((tick) => tick >= first && tick <= last) }
}

/** A scale of powers of ten that holds `low` to `high`, both above 0. */
export function logScale([low, high]: readonly [number, number], [from, to]: readonly [number, number]): Scale {
  const first = Math.floor(Math.log10(low) + 1e-9)
  const last = Math.max(first + 1, Math.ceil(Math.log10(high) - 1e-9))
  const at = (value: number) => from + ((Math.log10(value) - first) / (last - first)) * (to - from)
  const stride = Math.ceil((last - first) / 6)
  const powers = Array.from({ length: Math.floor((last - first) / stride) + 1 }, (_, k) => first + k * stride)
  return { at, ticks: powers.map((power) => Number((10 ** power).toPrecision(12))) }
}

/** A number as short as it can be read: 0.0025, 1e-5, 12,500, 1.2M. */
export function label(value: number): string {
  const size = Math.abs(value)
  if (size !== 0 && size < 1e-3) return Number(value.toPrecision(6)).toExponential()
  if (size >= 1e5) return value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 4 })
  return value.toLocaleString("en", { maximumSignificantDigits: 6 }) // else 0.0025 would be 0.003
}

/** A place, to a tenth: more does not show. */
export const place = (value: number): number => Number(value.toFixed(1))

/** The picture around a chart, with its title in the upper left. */
export function picture(
  { title, width, height }: { title: string; width: number; height: number },
  ...content: readonly (Html | readonly Html[])[]
): Html {
  return html`<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${title}" font-family="system-ui, sans-serif" font-size="${FONT_SIZE}" fill="currentColor">
<text x="0" y="13" font-weight="600">${title}</text>
${content.flat().map((part) => html`${part}\n`)}</svg>
`
}

/** Grid, numbers and titles of both axes: what is upward stands above the upper left corner, what is to the right below the lower right. */
export function axes(box: Box, x: Scale & { axis: Axis }, y: Scale & { axis: Axis }): Html[] {
  const { left, right, top } = box
  return [
    soft(html`x="0" y="${top - 11}"`, axisTitle(y.axis)),
    ...y.ticks.flatMap((tick) => [
      html`<line x1="${left}" x2="${right}" y1="${place(y.at(tick))}" y2="${place(y.at(tick))}" stroke="var(--line)"/>`,
      html`<text x="${left - 6}" y="${place(y.at(tick) + 4)}" text-anchor="end">${label(tick)}</text>`,
    ]),
    ...xAxis(box, x),
  ]
}

/** Numbers and title below a chart. */
export function xAxis({ left, right, bottom }: Box, { at, ticks, axis }: Scale & { axis: Axis }): Html[] {
  return [
    html`<line x1="${left}" x2="${right}" y1="${bottom}" y2="${bottom}" stroke="var(--soft)"/>`,
    ...ticks.map(
      (tick) => html`<text x="${place(at(tick))}" y="${bottom + 16}" text-anchor="middle">${label(tick)}</text>`,
    ),
    soft(html`x="${right}" y="${bottom + 31}"`, axisTitle(axis), "end"),
  ]
}

/** Text that steps back: names of axes, notes. */
export const soft = (at: Html, text: string, anchor: "start" | "middle" | "end" = "start"): Html =>
  html`<text ${at} text-anchor="${anchor}" color="var(--soft)">${text}</text>`

// --- looks ----------------------------------------------------------------------------------------------------------------

/** The colour of the k-th thing; there are eight. */
export const color = (k: number): string => `var(--c${(k % 8) + 1})`

const dashes = ["", "7 3", "2 2.5", "10 3 2 3", "4 2", "1 4", "12 4", "6 2 1 2 1 2"]

/** The dash of the k-th line, as attribute; colours that come again have another one. */
export function dash(k: number): Html {
  const pattern = dashes[(k + Math.floor(k / 8)) % dashes.length]!
  return pattern === "" ? html`` : html` stroke-dasharray="${pattern}"`
}

/** Outlines around (0, 0), about 8 wide. */
const outlines = [
  "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z", // circle
  "M-3.2-3.2h6.4v6.4h-6.4z", // square
  "M0-4.2L4.2 3.3h-8.4z", // triangle
  "M0-4.6L4.6 0L0 4.6L-4.6 0z", // diamond
  "M0 4.2L4.2-3.3h-8.4z", // triangle, its point down
  "M-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z", // plus
  "M-4-2.2L-2.2-4L0-1.8L2.2-4L4-2.2L1.8 0L4 2.2L2.2 4L0 1.8L-2.2 4L-4 2.2L-1.8 0z", // cross
  "M0-4.6L1.3-1.4H4.4L1.9.7L2.8 4L0 2.1L-2.8 4L-1.9.7L-4.4-1.4H-1.3z", // star
]

/** The mark of the k-th thing at a place. */
export function mark(k: number, x: number, y: number, tip?: string): Html {
  const outline = outlines[(k + Math.floor(k / 8)) % outlines.length]!
  return html`<path d="${outline}" transform="translate(${place(x)} ${place(y)})" fill="${color(k)}">${tip && html`<title>${tip}</title>`}</path>`
}
