// Charts as a file of their own, which every viewer draws: with the colours of day in place of the page's variables.
import { type Html, html, lightColors } from "../html.ts"

const GAP = 16
const SCALE = 1.5 // of a page's charts: a file is looked at alone

/** Charts below one another as one SVG. */
export function standaloneSvg(charts: readonly Html[], { title }: { title: string }): string {
  let [width, top] = [0, GAP]
  const drawn = charts.map(({ text }) => {
    const [, w, h] = /viewBox="0 0 (\d+) (\d+)"/.exec(text)!.map(Number) as [number, number, number]
    const placed = `<g transform="translate(${GAP} ${top})">${text}</g>`
    width = Math.max(width, w + 2 * GAP)
    top += h + GAP
    return placed
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top}" width="${SCALE * width}" height="${SCALE * top}">
${html`<title>${title}</title>`.text}
<rect fill="#fff" width="100%" height="100%"/>
${withLightColors(drawn.join("\n"))}
</svg>
`
}

const withLightColors = (svg: string): string =>
  svg
    .replace(/ color="var/g, ' fill="var') // of texts, which take the colour of their surroundings on a page
    .replaceAll("currentColor", lightColors.ink!)
    .replace(/var\(--(\w+)\)/g, (_, name: string) => lightColors[name]!)
