// The pictures in a run folder, rewritten after every evaluation: curves.svg and samples.png.
import type { VocFolder } from "../data/voc-folder.ts"
import { writeFileAtomic } from "../files.ts"
import type { Prediction } from "../train/run.ts"
import type { RunFolder } from "../train/run-folder.ts"
import { curves } from "./curves.ts"
import { type Sample, sampleSheet } from "./pictures.ts"

export function writeCurves(run: RunFolder): void {
  writeFileAtomic(run.file("curves.svg"), curves(run.records()))
}

export async function writeSamples(
  run: RunFolder,
  valSet: VocFolder,
  predictions: readonly Prediction[],
): Promise<void> {
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
}
