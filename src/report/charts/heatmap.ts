// A table of numbers as shades, with the numbers in them where they fit.
import { type Html, html } from "../html.ts"
import { fitText, picture, soft, textWidth } from "./axes.ts"

export interface HeatmapOptions {
  readonly title: string
  readonly rows: readonly string[]
  readonly columns: readonly string[]
  /** [rows][columns]; null where there is no number: shown as a dot. */
  readonly values: readonly (readonly (number | null)[])[]
  readonly format: (value: number) => string
  readonly rowTitle: string
  readonly columnTitle: string
  /** The value of the darkest shade. Default: the largest. */
  readonly most?: number
}

const WIDTH = 640 // of the cells together, at most
const LARGEST_CELL = 44
const SMALLEST_CELL = 5
const NAME = 110 // at most

/** On a dark shade text is as bright as the paper. */
const DARK = 0.7

/** Nothing without cells. Wide ones scroll by themselves on narrow screens. */
export function heatmap(options: HeatmapOptions): Html {
  const { title, rows, columns, values, format, rowTitle, columnTitle } = options
  if (rows.length === 0 || columns.length === 0) return html``
  const numbers = values.flat().filter((value) => value !== null)
  const most = options.most ?? numbers.reduce((a, b) => Math.max(a, b), 0)
  const widest = Math.min(NAME, Math.max(...[...rows, ...columns].map(textWidth)))
  const cell = Math.max(SMALLEST_CELL, Math.min(LARGEST_CELL, Math.floor(WIDTH / columns.length)))
  const isNumbered = numbers.every((value) => textWidth(format(value)) <= cell - 2)
  // Names stand at every row, or where rows are too low for letters at some.
  const stride = Math.ceil(13 / cell)
  const left = 26 + widest
  const top = 54 + widest
  const [width, height] = [left + columns.length * cell + 8, top + rows.length * cell + 4]

  const names = [
    ...rows.map((name, k) =>
      k % stride === 0
        ? html`<text x="${left - 6}" y="${top + (k + 0.5) * cell + 4}" text-anchor="end">${fitText(name, widest)}</text>`
        : html``,
    ),
    ...columns.map((name, k) =>
      k % stride === 0
        ? html`<text transform="translate(${left + (k + 0.5) * cell + 4} ${top - 6}) rotate(-90)">${fitText(name, widest)}</text>`
        : html``,
    ),
  ]
  const cells = values.flatMap((row, r) =>
    row.map((value, c) => {
      const [x, y] = [left + c * cell, top + r * cell]
      if (value === null) {
        return html`<circle cx="${x + cell / 2}" cy="${y + cell / 2}" r="1" fill="var(--soft)"/>`
      }
      if (value === 0) return html`` // most cells of most tables: blank says it best
      const shade = most > 0 ? Math.max(0, Math.min(1, value / most)) : 0
      const text = isNumbered ? format(value) : ""
      return html`<g><title>${rows[r]}, ${columns[c]}: ${format(value)}</title><rect x="${x}" y="${y}" width="${cell}" height="${cell}" fill="var(--c1)" fill-opacity="${Number(shade.toFixed(3))}"/>${
        text &&
        html`<text x="${x + cell / 2}" y="${y + cell / 2 + 4}" text-anchor="middle"${shade > DARK && html` color="var(--card)"`}>${text}</text>`
      }</g>`
    }),
  )
  const frame = html`<rect x="${left}" y="${top}" width="${columns.length * cell}" height="${rows.length * cell}" fill="none" stroke="var(--line)"/>`
  const chart = picture({ title, width, height }, names, cells, [
    frame,
    soft(html`x="${left}" y="34"`, `${columnTitle} →`),
    soft(html`transform="translate(12 ${top}) rotate(-90)"`, `← ${rowTitle}`, "end"),
  ])
  return html`<div class="scroll wide" style="--width: ${width}px">${chart}</div>
`
}
