// The pictures in a run folder: curves.svg and samples.png, rewritten after every evaluation, and samples/<step>/<id>.png, what
// was predicted then for the same few images: small masks, kept to see how predictions change.
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { readBytes } from "../data/files.ts"
import { paletteOf } from "../data/label-map.ts"
import type { Mask } from "../data/mask.ts"
import { decodePng, writeIndexedPng } from "../data/png.ts"
import type { VocFolder } from "../data/voc-folder.ts"
import { makeFolder, writeFileAtomic } from "../files.ts"
import type { Prediction } from "../train/run.ts"
import type { RunFolder } from "../train/run-folder.ts"
import { pageBox, sizeInside } from "./canvas.ts"
import { curvesSvg, evaluationsOf } from "./curves.ts"
import { resizeMask, sampleSheet } from "./pictures.ts"
import type { Sample } from "./predictor.ts"

export function writeCurves(run: RunFolder): void {
  writeFileAtomic(run.file("curves.svg"), curvesSvg(run.records()))
}

/** A small mask as it was written: for those who show it elsewhere too. */
export interface SampleFile {
  readonly id: string
  readonly width: number
  readonly height: number
  readonly png: Uint8Array
}

export async function writeSamples(
  run: RunFolder,
  valSet: VocFolder,
  predictions: readonly Prediction[],
  step: number,
): Promise<SampleFile[]> {
  const samples: Sample[] = []
  for (const { index, labels } of predictions) {
    const { id, width, height, image, mask } = await valSet.readSample(index)
    const size = { width, height }
    samples.push({
      id,
      image: { ...size, data: image },
      truth: { ...size, labels: mask },
      prediction: { ...size, labels },
    })
  }
  const sheet = await sampleSheet(samples, valSet.labelMap)
  await sheet.writePng(run.file("samples.png"))

  const palette = paletteOf(valSet.labelMap)
  const folder = makeFolder(run.file(join("samples", String(step))))
  return samples.map(({ id, prediction }) => {
    const isSmall = prediction.width <= pageBox.width && prediction.height <= pageBox.height
    const { labels, width, height } = isSmall ? prediction : resizeMask(prediction, sizeInside(prediction, pageBox))
    const png = writeIndexedPng(labels, width, height, palette)
    writeFileAtomic(join(folder, `${id}.png`), png)
    return { id, width, height, png }
  })
}

/** What was predicted for one image at an evaluation. */
export interface PastPrediction {
  readonly step: number
  readonly mask: Mask
}

/** The predictions that a run kept, by image; of evaluations that a resumed run took back there are none. */
export function pastPredictions(run: RunFolder): Map<string, PastPrediction[]> {
  const byImage = new Map<string, PastPrediction[]>()
  for (const { step } of evaluationsOf(run.records())) {
    const folder = run.file(join("samples", String(step)))
    if (!existsSync(folder)) continue
    for (const name of readdirSync(folder).sort()) {
      if (!name.endsWith(".png") || name.startsWith(".")) continue
      const id = name.slice(0, -4)
      const file = join(folder, name)
      const { width, height, data } = decodePng(readBytes(file, "sample"), file)
      byImage.set(id, [...(byImage.get(id) ?? []), { step, mask: { width, height, labels: data } }])
    }
  }
  return byImage
}
