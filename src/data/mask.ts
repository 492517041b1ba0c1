// Masks from PNG files to training labels: by palette index, or through the label map's colours where the PNG is RGB.
import { UserError } from "../errors.ts"
import { readBytes } from "./files.ts"
import { type LabelMap, unknownLabel } from "./label-map.ts"
import { decodePng, type Png, type Rgb } from "./png.ts"

export type Mask = {
  readonly width: number
  readonly height: number
  /** [height, width] in 0..K-1, or 255 for void. */
  readonly labels: Uint8Array
  /** [height, width] share of the foreground from 0 to 1; of alpha mattes only, see matte.ts. */
  readonly alpha?: Float32Array
}

/**
 * A function that reads mask files. Palette and grey PNGs are read by index; RGB ones must hold exactly the colours of
 * the label map (a fourth channel, transparency, is ignored).
 * @param source the data set's own label map: what the files hold
 * @param lookup [256] from that to training labels, see `selectClasses`
 * @returns reads one file; throws a UserError with file, pixel and value for the first label or colour not in `source`
 */
export function maskReader(source: LabelMap, lookup: Uint8Array): (file: string) => Mask {
  const entries = [...source.classes, source.ignore]
  let indexOfColor: Map<number, number> | undefined // made at the first RGB mask; most data sets have none

  return (file) => {
    const png = decodePng(readBytes(file, "mask"), file)
    const { width, height, channels } = png
    if (channels === 2) {
      throw new UserError(
        `Mask ${file} is grey with transparency; expected a palette PNG whose index is the class, or RGB. Remove the transparency.`,
      )
    }
    if (channels === 1) checkPalette(png, entries, file)
    else indexOfColor ??= colorTable(entries, file)
    const indices = channels === 1 ? png.data : indicesOf(png, indexOfColor!, entries, file)

    const labels = relabel(indices, lookup)
    const bad = labels.indexOf(unknownLabel) // half the time of a test of each while it is looked up
    if (bad >= 0) throw unknownIndex(png, bad, entries, file)
    return { width, height, labels }
  }
}

/**
 * [height, width] looked up. Labels lie in runs, so four are compared at once with the four before.
 * @param indices memory of their own, so that they can be read four at a time
 */
function relabel(indices: Uint8Array, lookup: Uint8Array): Uint8Array {
  const labels = new Uint8Array(indices.length)
  const { buffer, byteOffset, length } = indices
  const from = new Uint32Array(buffer, byteOffset, length >> 2)
  const to = new Uint32Array(labels.buffer, 0, length >> 2)
  for (let i = 0; i < from.length; i++) {
    if (i > 0 && from[i] === from[i - 1]) to[i] = to[i - 1]!
    else for (let k = 4 * i; k < 4 * i + 4; k++) labels[k] = lookup[indices[k]!]!
  }
  for (let k = 4 * from.length; k < length; k++) labels[k] = lookup[indices[k]!]!
  return labels
}

/** Colours to indices. Runs of one colour are long in masks, so the last colour is kept: 5 times faster than asking each. */
function indicesOf(
  { data, channels, width }: Png,
  table: Map<number, number>,
  entries: Entry[],
  file: string,
): Uint8Array {
  const indices = new Uint8Array(data.length / channels)
  let lastColor = -1
  let lastIndex = 0
  for (let i = 0, at = 0; i < indices.length; i++, at += channels) {
    const color = (data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!
    if (color !== lastColor) {
      const index = table.get(color)
      if (index === undefined) {
        const rgb: Rgb = [data[at]!, data[at + 1]!, data[at + 2]!]
        const nearest = entries.reduce((a, b) => (distance(b.color, rgb) < distance(a.color, rgb) ? b : a))
        throw new UserError(
          `Mask ${file} has the colour (${rgb.join(", ")}) at ${pixel(i, width)}, which is not in the label map; ` +
            `the nearest is ${nearest.name} (${nearest.color.join(", ")}). ` +
            `Was the mask resized smoothly, or saved as JPEG in between?`,
        )
      }
      lastColor = color
      lastIndex = index
    }
    indices[i] = lastIndex
  }
  return indices
}

function colorTable(entries: Entry[], file: string): Map<number, number> {
  const table = new Map<number, number>()
  for (const { index, name, color } of entries) {
    const key = pack(color)
    const other = entries.find((entry) => entry.index === table.get(key))
    if (other) {
      throw new UserError(
        `Mask ${file} is RGB, and the label map gives (${color.join(", ")}) to both "${other.name}" and "${name}". ` +
          `Give each class its own colour, or save the masks as palette PNGs.`,
      )
    }
    table.set(key, index)
  }
  return table
}

function checkPalette(png: Png, entries: Entry[], file: string): void {
  const moved = renumberedEntry(png, entries)
  if (!moved) return
  const { entry, color, other } = moved
  throw new UserError(
    `Mask ${file}: index ${entry.index} is "${entry.name}" in the label map, but its palette colour ` +
      `(${color.join(", ")}) is that of "${other.name}" (${other.index}). Was the palette renumbered by an editor or an ` +
      `optimiser? Save the mask as RGB (it is then read by colour), or correct the label map.`,
  )
}

/**
 * PNG optimisers and some editors renumber palettes: the picture looks the same, and every label is another class.
 * Noticed when a palette holds nothing but colours of the label map, and one of them is at another class's index and not at its
 * own. (At both: many writers fill palettes up with black.)
 * @returns the first class whose index has the colour of another; undefined when all is well, or there is no palette
 */
export function renumberedEntry(
  { palette }: Png,
  entries: readonly Entry[],
): { entry: Entry; color: Rgb; other: Entry } | undefined {
  const byColor = new Map(entries.map((entry) => [pack(entry.color), entry]))
  if (!palette.every((color) => byColor.has(pack(color)))) return undefined
  for (const entry of entries) {
    const color = palette[entry.index]
    if (color === undefined || pack(color) === pack(entry.color)) continue
    const other = byColor.get(pack(color))!
    const own = palette[other.index]
    if (own === undefined || pack(own) !== pack(color)) return { entry, color, other }
  }
  return undefined
}

function unknownIndex({ data, width, header }: Png, at: number, entries: Entry[], file: string): UserError {
  const hint =
    header.color === "grey" && header.depth === 8
      ? "It is a grey PNG: was a coloured mask turned to grey?"
      : "Is the label map complete?"
  return new UserError(
    `Mask ${file} has label ${data[at]} at ${pixel(at, width)}; expected ${ranges(entries.map(({ index }) => index))}. ${hint}`,
  )
}

/** [0, 1, 2, 5, 255] as "0..2, 5 or 255". */
export function ranges(numbers: readonly number[]): string {
  const sorted = numbers.toSorted((a, b) => a - b)
  const parts: string[] = []
  for (let from = 0, to = 0; from < sorted.length; from = ++to) {
    while (sorted[to + 1] === sorted[to]! + 1) to++
    parts.push(from === to ? `${sorted[from]}` : `${sorted[from]}..${sorted[to]}`)
  }
  return parts.join(", ").replace(/, (?=[^,]*$)/, " or ")
}

type Entry = LabelMap["ignore"]
const pack = ([red, green, blue]: Rgb) => (red << 16) | (green << 8) | blue
const distance = (a: Rgb, b: Rgb) => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2

/** The pixel's place in words. */
export const pixel = (i: number, width: number) => `pixel (x ${i % width}, y ${Math.floor(i / width)})`
