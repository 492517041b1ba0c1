// Masks as pictures: colours, overlays, errors, and a sheet of samples.

import type { RgbImage } from "../data/image.ts"
import { ignoreIndex, type LabelMap, paletteOf } from "../data/label-map.ts"
import type { Mask } from "../data/mask.ts"
import type { Rgb } from "../data/png.ts"
import { Canvas, fitInside, textWidth } from "./canvas.ts"

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

/** The image in grey where the prediction is right, void in white, and wrong pixels in red. */
export function errorMap(image: RgbImage, truth: Mask, prediction: Mask): RgbImage {
  const rgb = new Uint8Array(image.data.length)
  for (let k = 0; k < truth.labels.length; k++) {
    const grey =
      0.2 * ((image.data[3 * k] as number) + (image.data[3 * k + 1] as number) + (image.data[3 * k + 2] as number)) // dimmed
    const label = truth.labels[k]
    const color = label === ignoreIndex ? WHITE : label === prediction.labels[k] ? [grey, grey, grey] : RED
    rgb.set(color, 3 * k)
  }
  return { width: image.width, height: image.height, data: rgb }
}

export interface Sample {
  readonly id: string
  readonly image: RgbImage
  readonly truth: Mask
  readonly prediction: Mask
}

const WHITE: Rgb = [255, 255, 255]
const RED: Rgb = [230, 40, 40]
const PAPER: Rgb = [250, 250, 248]
const INK: Rgb = [40, 40, 40]
const COLUMNS = ["image", "truth", "prediction", "errors (red), void (white)"]

/** One row a sample: image, truth, prediction, errors; above them what the columns are, below them which colour is which class. */
export async function sampleSheet(samples: readonly Sample[], labelMap: LabelMap): Promise<Canvas> {
  const palette = paletteOf(labelMap)
  const cell = {
    width: 320,
    height: Math.max(...samples.map(({ image }) => Math.round(Math.min(320, (320 * image.height) / image.width)))),
  }
  const gap = 8
  const header = 32
  const width = COLUMNS.length * (cell.width + gap) + gap

  const legend = layOutLegend(labelMap, width - 2 * gap)
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
      errorMap(image, truth, prediction),
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

function layOutLegend(labelMap: LabelMap, width: number) {
  const entries: { left: number; top: number; name: string; color: Rgb }[] = []
  let left = 0
  let top = 0
  for (const { name, color } of labelMap.classes) {
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
