// Masks as pictures: colours, overlays, names on objects, and a sheet of samples.
import { connectedComponents } from "../data/components.ts"
import type { RgbImage } from "../data/image.ts"
import { ignoreIndex, type LabelMap, paletteOf } from "../data/label-map.ts"
import type { Mask } from "../data/mask.ts"
import type { Rgb } from "../data/png.ts"
import { Canvas, fitInside, textWidth } from "./canvas.ts"
import { classifyErrors, errorLegend, errorPicture } from "./errors.ts"
import type { Sample } from "./predictor.ts"
import type { Box } from "./suspects.ts"

/** The image with each object tinted in its class's colour and outlined; background stays as it is. */
export function overlay(
  image: RgbImage,
  mask: Mask,
  palette: readonly Rgb[],
  { background, opacity = 0.5 }: { background?: number; opacity?: number } = {},
): RgbImage {
  const { width, height } = image
  const rgb = Uint8Array.from(image.data)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x
      const label = mask.labels[at] as number
      const border =
        (x + 1 < width && mask.labels[at + 1] !== label) || (y + 1 < height && mask.labels[at + width] !== label)
      if (label === background && !border) continue
      const color = border ? WHITE : (palette[label] as Rgb)
      for (let c = 0; c < 3; c++)
        rgb[3 * at + c] = (1 - opacity) * (image.data[3 * at + c] as number) + opacity * (color[c] as number)
    }
  }
  return { width, height, data: rgb }
}

/** A mask in another size: of each pixel the nearest one of the mask. */
export function resizeMask({ labels, width, height }: Mask, to: { width: number; height: number }): Mask {
  const resized = new Uint8Array(to.width * to.height)
  for (let y = 0; y < to.height; y++) {
    const row = Math.floor(((y + 0.5) * height) / to.height) * width
    for (let x = 0; x < to.width; x++) {
      resized[y * to.width + x] = labels[row + Math.floor(((x + 0.5) * width) / to.width)]!
    }
  }
  return { width: to.width, height: to.height, labels: resized }
}

/** The part of a picture inside a box. */
export function cropImage({ data, width }: RgbImage, [x, y, w, h]: Box): RgbImage {
  const part = new Uint8Array(w * h * 3)
  for (let row = 0; row < h; row++) {
    const from = ((y + row) * width + x) * 3
    part.set(data.subarray(from, from + w * 3), row * w * 3)
  }
  return { width: w, height: h, data: part }
}

export function cropMask({ labels, width }: Mask, [x, y, w, h]: Box): Mask {
  const part = new Uint8Array(w * h)
  for (let row = 0; row < h; row++) {
    const from = (y + row) * width + x
    part.set(labels.subarray(from, from + w), row * w)
  }
  return { width: w, height: h, labels: part }
}

/** A picture with a line around a box, dark and bright so that it shows on everything. */
export function frame(picture: RgbImage, [x, y, width, height]: Box): RgbImage {
  const canvas = new Canvas(picture.width, picture.height, WHITE)
  canvas.picture(0, 0, picture)
  for (const [grow, color] of [[1, INK] as const, [0, WHITE] as const]) {
    const [left, top, w, h] = [x - grow, y - grow, width + 2 * grow, height + 2 * grow]
    canvas.box(left, top, w, 1, color)
    canvas.box(left, top + h - 1, w, 1, color)
    canvas.box(left, top, 1, h, color)
    canvas.box(left + w - 1, top, 1, h, color)
  }
  return canvas
}

const LETTERS = 1.5 // per cent of a picture that an object must have to be given its name

/**
 * The names of objects written on them, so that nobody must know a class by its colour. Small ones, and those that are narrower than
 * their name, have none.
 */
export function nameObjects(picture: RgbImage, mask: Mask, { classes, background }: LabelMap): RgbImage {
  const canvas = new Canvas(picture.width, picture.height, WHITE)
  canvas.picture(0, 0, picture)
  const ignore = [ignoreIndex, ...(background === undefined ? [] : [background])]
  const { ids, components } = connectedComponents(mask.labels, mask, { ignore })
  for (const [number, { label, pixels, box }] of components.entries()) {
    if (pixels < (LETTERS / 100) * mask.labels.length) continue
    const name = classes[label]?.name ?? String(label)
    const run = longestRun(ids, number, box, mask.width)
    const width = textWidth(name) + 2
    if (run.length < width) continue
    const left = Math.round(run.x + (run.length - width) / 2)
    const top = Math.max(0, Math.min(mask.height - PLATE, run.y - PLATE / 2))
    canvas.box(left, top, width, PLATE, INK)
    canvas.text(left + 2, top + 1, name, WHITE)
  }
  return canvas
}

const PLATE = 18 // pixels: two of each of the font's rows, and an edge

/** Of a component, the longest row of pixels; of equal ones that which is nearest to its middle. */
function longestRun(ids: Int32Array, number: number, [left, top, width, height]: Box, stride: number) {
  let longest = { x: left, y: top, length: 0 }
  const middle = top + (height - 1) / 2
  const rows = Array.from({ length: height }, (_, k) => top + k)
  for (const y of rows.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle))) {
    for (let x = left, length = 0; x < left + width; x++) {
      length = ids[y * stride + x] === number ? length + 1 : 0
      if (length > longest.length) longest = { x: x - length + 1, y, length }
    }
  }
  return longest
}

const WHITE: Rgb = [255, 255, 255]
const PAPER: Rgb = [250, 250, 248]
const INK: Rgb = [40, 40, 40]
const COLUMNS = ["image", "truth", "prediction", "errors"]

/** One row a sample: image, truth, prediction, errors; above them what the columns are, below them which colour is which class, and which kind of error. */
export async function sampleSheet(samples: readonly Sample[], labelMap: LabelMap): Promise<Canvas> {
  const palette = paletteOf(labelMap)
  const cell = {
    width: 320,
    height: Math.max(...samples.map(({ image }) => Math.round(Math.min(320, (320 * image.height) / image.width)))),
  }
  const gap = 8
  const header = 32
  const width = COLUMNS.length * (cell.width + gap) + gap

  const legend = layOutLegend([...labelMap.classes, ...errorLegend], width - 2 * gap)
  const rowsTop = header + gap
  const legendTop = rowsTop + samples.length * (cell.height + gap) + gap
  const canvas = new Canvas(width, legendTop + legend.height, PAPER)
  for (const [column, title] of COLUMNS.entries()) canvas.text(gap + column * (cell.width + gap), 12, title, INK)
  for (const [row, { image, truth, prediction }] of samples.entries()) {
    const { background } = labelMap
    const pictures = [
      image,
      overlay(image, truth, palette, { background }),
      overlay(image, prediction, palette, { background }),
      errorPicture(image, classifyErrors(prediction.labels, truth.labels, truth, { background: background ?? null })),
    ]
    for (const [column, picture] of pictures.entries()) {
      const fitted = await fitInside(picture, cell)
      canvas.picture(gap + column * (cell.width + gap), rowsTop + row * (cell.height + gap), fitted)
    }
  }
  for (const { left, top, name, color } of legend.entries) {
    canvas.box(gap + left, legendTop + top, 16, 16, color)
    canvas.text(gap + left + 22, legendTop + top, name, INK)
  }
  return canvas
}

function layOutLegend(named: readonly { readonly name: string; readonly color: Rgb }[], width: number) {
  const entries: { left: number; top: number; name: string; color: Rgb }[] = []
  let left = 0
  let top = 0
  for (const { name, color } of named) {
    const needed = 22 + textWidth(name) + 24
    if (left > 0 && left + needed > width) {
      left = 0
      top += 26
    }
    entries.push({ left, top, name, color })
    left += needed
  }
  return { entries, height: top + 30 }
}
