// Pages that open from disk: one self-contained HTML file without scripts from elsewhere, for laptop and telephone, light, dark
// and paper. Text is escaped wherever it is put in, because names of classes and files are somebody else's.
import sharp from "sharp"
import type { RgbImage } from "../data/image.ts"

/** A piece of HTML that is safe to put into a page. Made by html`...` alone. */
export class Html {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

type Content = Html | string | number | null | undefined | false | readonly Content[]

/** A template whose values are escaped, unless they are Html themselves; lists are joined, null, undefined and false are nothing. */
export function html(literal: TemplateStringsArray, ...values: readonly Content[]): Html {
  return new Html(literal.map((text, k) => text + (k < values.length ? textOf(values[k]) : "")).join(""))
}

function textOf(value: Content): string {
  if (value instanceof Html) return value.text
  if (Array.isArray(value)) return value.map(textOf).join("")
  return value === null || value === undefined || value === false ? "" : escapeText(String(value))
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
}
const escapeText = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character] as string)

/**
 * A whole document.
 * @param lead one or two sentences below the title
 */
export function page({ title, lead, sections }: { title: string; lead: Content; sections: readonly Html[] }): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>${new Html(style)}</style>
</head>
<body>
<header><h1>${title}</h1><p class="lead">${lead}</p></header>
<main>${sections}</main>
</body>
</html>
`.text
}

/** A part of a page, with a heading that links can point to: `#per-class`. */
export function section(title: string, ...content: readonly Content[]): Html {
  const id = title
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "")
  return html`<section id="${id}"><h2>${title}</h2>${content}</section>
`
}

const LONG_TEXT = 40 // characters; such columns have room for a few words a line, however narrow the screen

/** Tables scroll by themselves where the screen is narrow. The first column is words; the others are numbers, set to the right. */
export function dataTable({
  head,
  rows,
  caption,
  words = [0],
}: {
  head: readonly Content[]
  rows: readonly (readonly Content[])[]
  caption?: Content
  /** Columns that hold words. */
  words?: readonly number[]
}): Html {
  const isLong = head.map(
    (_, column) => column > 0 && rows.some((row) => textOf(row[column]).replace(/<[^>]*>/g, "").length > LONG_TEXT),
  )
  const align = (column: number) => {
    if (!words.includes(column)) return new Html(' class="number"')
    return isLong[column] ? html` class="long${head.length > 2 && " beside"}"` : ""
  }
  const cell = (content: Content, column: number) =>
    column === 0 ? html`<th scope="row">${content}</th>` : html`<td${align(column)}>${content}</td>`
  return html`<div class="scroll"><table>
${caption && html`<caption>${caption}</caption>`}
<thead><tr>${head.map((title, column) => html`<th scope="col"${align(column)}>${title}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map(cell)}</tr>\n`)}</tbody>
</table></div>
`
}

/** A picture or chart with the sentence that says what it shows. */
export const figure = (content: Content, caption?: Content): Html =>
  html`<figure>${content}${caption && html`<figcaption>${caption}</figcaption>`}</figure>
`

/** Pictures beside one another, as many as there is room for. */
export const gallery = (...figures: readonly Content[]): Html => html`<div class="gallery">${figures}</div>
`

/** Charts beside one another: two on a laptop; small ones, as many as there is room for. */
export const chartGrid = (charts: readonly Html[], { small = false } = {}): Html =>
  html`<div class="charts${small && " small"}">${charts.map((chart) => html`<div>${chart}</div>`)}</div>
`

/** Pictures of one thing beside one another: as many in a row as there are, of four two on a telephone. */
export const row = (
  ...figures: readonly Content[]
): Html => html`<div class="row row-${figures.length}">${figures}</div>
`

/** Small pictures of one thing, in as many rows as they need. */
export const strip = (figures: readonly Content[]): Html => html`<div class="strip">${figures}</div>
`

/** What cannot be seen at once, behind its title. */
export const details = (summary: Content, ...content: readonly Content[]): Html =>
  html`<details><summary>${summary}</summary>${content}</details>
`

/** Names with their colours. */
export const swatches = (entries: readonly { readonly name: Content; readonly color: readonly number[] }[]): Html =>
  html`<ul class="swatches">${entries.map(
    ({ name, color }) =>
      html`<li><svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" rx="3" fill="rgb(${color.join(",")})" stroke="var(--soft)"/></svg>${name}</li>`,
  )}</ul>
`

/** A box that catches the eye: what to do about something. */
export const notice = (...content: readonly Content[]): Html => html`<aside>${content}</aside>
`

/** An <img> that carries its picture: WebP, lossless for masks and maps, whose colours mean something. */
export async function image(
  { data, width, height }: RgbImage,
  { alt, lossless = false }: { alt: string; lossless?: boolean },
): Promise<Html> {
  const bytes = await sharp(data, { raw: { width, height, channels: 3 } })
    .webp(lossless ? { lossless } : { quality: 80 })
    .toBuffer()
  return html`<img src="data:image/webp;base64,${bytes.toString("base64")}" width="${width}" height="${height}" alt="${alt}" loading="lazy">`
}

// Colours are variables, so that charts follow the page into the dark. --c1 to --c8 are Okabe and Ito's palette (2008,
// https://jfly.uni-koeln.de/color/), which people tell apart whatever their colour vision; on a dark page its lighter forms.
/** The colours of a page by day; charts that stand alone, as files, have them too. */
export const lightColors: Readonly<Record<string, string>> = {
  ...{
    paper: "#fcfcfa",
    card: "#fff",
    ink: "#1d2329",
    soft: "#5c6670",
    line: "#d9dde1",
    accent: "#0b62a8",
    warm: "#fff4dc",
    shade: "#0003",
  },
  ...{
    c1: "#0072b2",
    c2: "#d55e00",
    c3: "#009e73",
    c4: "#b5578f",
    c5: "#b58900",
    c6: "#3d8fc7",
    c7: "#8a5a2b",
    c8: "#5c6670",
  },
}

const style = `
:root {
  ${Object.entries(lightColors)
    .map(([name, value]) => `--${name}: ${value};`)
    .join(" ")}
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --card: #1c2126; --ink: #e6e9ec; --soft: #a3adb6; --line: #38414a; --accent: #6db5f2; --warm: #3a3118; --shade: #0009;
    --c1: #56a8e0; --c2: #f08a45; --c3: #35c99c; --c4: #e39ac4; --c5: #e3bd3f; --c6: #8fd0ff; --c7: #c99c6b; --c8: #a3adb6;
  }
}
* { box-sizing: border-box }
body { overflow-wrap: break-word; margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 }
h2 { font-size: 1.2rem; margin: 0 0 .75rem }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem }
a { color: var(--accent) }
.lead { color: var(--soft); max-width: 48rem; margin: 0 0 1rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.25rem; margin: 1rem 0 }
p { max-width: 48rem }
/* A shadow at the edge beyond which a table goes on: covered by the card's colour where there is nothing more to see. */
.scroll { overflow-x: auto;
  background: linear-gradient(to right, var(--card) 40%, transparent) left / 2rem 100% local no-repeat,
    linear-gradient(to left, var(--card) 40%, transparent) right / 2rem 100% local no-repeat,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100% scroll no-repeat,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100% scroll no-repeat }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top; font-weight: 400 }
thead th { font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom }
tbody tr + tr > * { border-top: 1px solid var(--line) }
tbody th { min-width: 7.5rem }
.number { text-align: right; white-space: nowrap }
thead .number { white-space: normal; min-width: 4.5rem }
.long { min-width: 12rem; overflow-wrap: anywhere }
.long.beside { min-width: 20rem }
figure { margin: 1rem 0 }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .3rem; max-width: 48rem }
img, svg { max-width: 100%; height: auto }
img { border-radius: 4px; display: block }
svg { display: block; color: var(--ink) }
svg text { fill: currentColor }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: 1rem }
.gallery figure { margin: 0 }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1.25rem 2rem; margin: 1rem 0 }
.charts.small, .strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(9.5rem, 45%), 1fr)); gap: .75rem }
.charts svg { width: 100%; max-width: 32rem }
.row { display: flex; flex-wrap: wrap; gap: .5rem }
.row figure { flex: 1 1 9rem; max-width: 20rem; margin: 0 }
.row-3 figure { flex-basis: 6rem }
.row img, .strip img { width: 100%; outline: 1px solid var(--line) }
.strip figure { margin: 0 }
.swatches { list-style: none; padding: 0; margin: .5rem 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .9rem }
.swatches svg { display: inline-block; vertical-align: -2px; margin-right: .4rem }
.wide svg { width: var(--width); max-width: none }
aside { background: var(--warm); border-left: 4px solid var(--c5); border-radius: 4px; padding: .6rem .9rem; margin: 1rem 0; max-width: 50rem }
pre { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; line-height: 1.4 }
pre code { overflow-wrap: normal }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
details > summary { cursor: pointer; color: var(--accent) }
@media (max-width: 40rem) { body { padding: .75rem .6rem 3rem } section { padding: .75rem } }
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --warm: #fff }
  body { max-width: none; padding: 0; font-size: 10pt }
  section { border: 0; padding: 0 }
  figure, tr, aside { break-inside: avoid }
  h2, h3, h3 + p { break-after: avoid }
  .scroll { overflow: visible; background: none }
  pre { white-space: pre-wrap }
  .wide svg { max-width: 100% }
  .charts > div, .row { break-inside: avoid }
}
`
