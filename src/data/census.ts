// Counts the labels of a whole split before any training: finds the first bad mask or image, and knows how unequal the classes are.
import { setImmediate } from "node:timers/promises"
import { ignoreIndex } from "./label-map.ts"
import type { VocFolder } from "./voc-folder.ts"

export type Census = {
  /** [K] pixels of each class; exact up to 2^53. */
  readonly pixels: Float64Array
  /** [K] images in which the class occurs. */
  readonly images: Uint32Array
  /** [K] pixels, void left out, of the images in which the class occurs. */
  readonly pixelsOfItsImages: Float64Array
  /** Void pixels. */
  readonly ignored: number
}

/**
 * Counts pixels per class, and looks at each image without decoding it (see `checkSample`): about 1 ms a VOC sample, on a
 * core that is also busy with other work.
 * @param onProgress called after every 16 masks and at the end
 * @throws UserError with file, pixel and value for the first label outside the label map
 */
export async function censusLabels(
  dataset: VocFolder,
  { onProgress = (_done: number, _total: number): void => {} } = {},
): Promise<Census> {
  const classes = dataset.labelMap.classes.length
  const total = dataset.ids.length
  const pixels = new Float64Array(classes)
  const images = new Uint32Array(classes)
  const pixelsOfItsImages = new Float64Array(classes)
  let ignored = 0
  for (let index = 0; index < total; index++) {
    const counts = new Uint32Array(256)
    const { labels } = await dataset.checkSample(index)
    for (let i = 0; i < labels.length; i++) counts[labels[i]!]! += 1 // "for of" takes four times as long here
    ignored += counts[ignoreIndex]!
    for (let k = 0; k < classes; k++) {
      pixels[k]! += counts[k]!
      if (counts[k]! === 0) continue
      images[k]! += 1
      pixelsOfItsImages[k]! += labels.length - counts[ignoreIndex]!
    }
    if ((index + 1) % 16 === 0 || index + 1 === total) {
      onProgress(index + 1, total)
      await setImmediate() // lets timers, a progress bar and Ctrl-C have their turn
    }
  }
  return { pixels, images, pixelsOfItsImages, ignored }
}
