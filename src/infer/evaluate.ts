// Evaluation: every image of a split at full size, one confusion matrix over all of them, and what it says.
import type { Batch } from "../data/batch.ts"
import { ignoreIndex, type LabelMap } from "../data/label-map.ts"
import { defaultWorkers, Loader } from "../data/loader.ts"
import { type Normalization, toTensorData } from "../data/transforms/index.ts"
import type { VocFolder } from "../data/voc-folder.ts"
import { backgroundOnly, type ClassScores, ConfusionMatrix, classScores, metrics } from "../metrics/index.ts"
import type { SegmentationModel } from "../models/index.ts"
import { predictLabels } from "./predict.ts"

/** A confusion matrix in numbers, each 0 to 1; null where undefined. Plain data, as it stands in a run's files. */
export interface Scores {
  readonly meanIoU: number | null
  /** null where no class is background. */
  readonly meanIoUWithoutBackground: number | null
  readonly meanAccuracy: number | null
  readonly pixelAccuracy: number | null
  readonly classes: readonly (ClassScores & { readonly name: string })[]
  /** Names of classes in neither truth nor prediction: no mean counts them. */
  readonly leftOut: readonly string[]
  /** What predicting one class everywhere would score: background, or the largest class where there is none. */
  readonly trivial: {
    readonly name: string
    readonly meanIoU: number | null
    readonly meanIoUWithoutBackground: number | null
    readonly pixelAccuracy: number | null
  }
}

/** Whole images one by one, in order: every image at its own size. */
export function evaluationLoader(
  dataset: VocFolder,
  { workers = defaultWorkers(), normalization = {} as Normalization } = {},
): Loader {
  return new Loader(dataset, { batchSize: 1, workers, transform: { name: "whole", ...normalization } })
}

const TIMED_IMAGES = 5

/** Seconds that `evaluate` will take: by the median of a few of the images, because the first of a size takes longer. */
export async function estimateEvaluation(
  model: SegmentationModel,
  dataset: VocFolder,
  { normalization = {} as Normalization } = {},
): Promise<number> {
  const wasTraining = model.training
  model.eval()
  const seconds: number[] = []
  for (let k = 0; k < TIMED_IMAGES; k++) {
    const index = Math.floor((k * dataset.ids.length) / TIMED_IMAGES)
    const start = performance.now()
    const { image, width, height } = await dataset.readSample(index)
    predictLabels(model, toTensorData({ width, height, data: image }, normalization), [1, height, width]).dispose()
    seconds.push((performance.now() - start) / 1000)
  }
  model.train(wasTraining)
  return seconds.sort((a, b) => a - b)[Math.floor(TIMED_IMAGES / 2)]! * dataset.ids.length
}

export interface EvaluateOptions {
  /** Called with each batch and its predictions [N, H, W], for pictures and files. */
  onBatch?: (batch: Batch, predictions: Uint8Array) => void
  /** Ends it after the image at hand, with the signal's reason as error. */
  signal?: AbortSignal
}

/** @param batches of a whole split; all images of a batch have one size */
export async function evaluate(
  model: SegmentationModel,
  batches: AsyncIterable<Batch>,
  numClasses: number,
  { onBatch, signal }: EvaluateOptions = {},
): Promise<ConfusionMatrix> {
  const matrix = new ConfusionMatrix(numClasses)
  const wasTraining = model.training
  model.eval()
  try {
    for await (const batch of batches) {
      using labels = predictLabels(model, batch.images, batch.shape)
      using bytes = labels.to({ dtype: "uint8" })
      const predictions = bytes.data() as Uint8Array
      matrix.add(predictions, batch.masks, { ignoreIndex })
      onBatch?.(batch, predictions)
      signal?.throwIfAborted()
    }
  } finally {
    model.train(wasTraining)
  }
  return matrix
}

/** All scores of a matrix beside those of the trivial prediction, which no model may be compared without. */
export function summarize(matrix: ConfusionMatrix, { classes, background }: LabelMap): Scores {
  const perClass = classScores(matrix)
  const largest = perClass.reduce(
    (best, { truthPixels }, k) => (truthPixels > (perClass[best]?.truthPixels ?? 0) ? k : best),
    0,
  )
  const trivialClass = background ?? largest
  const trivial = backgroundOnly(matrix, trivialClass)
  const name = (k: number) => classes[k]?.name ?? String(k)
  const withoutBackground = (of: ConfusionMatrix) =>
    background === undefined ? null : metrics.meanIoUWithoutBackground(of, { background }).value
  const meanIoU = metrics.meanIoU(matrix)
  return {
    meanIoU: meanIoU.value,
    meanIoUWithoutBackground: withoutBackground(matrix),
    meanAccuracy: metrics.meanAccuracy(matrix).value,
    pixelAccuracy: metrics.pixelAccuracy(matrix).value,
    classes: perClass.map((scores, k) => ({ name: name(k), ...scores })),
    leftOut: meanIoU.leftOut.map(name),
    trivial: {
      name: name(trivialClass),
      meanIoU: metrics.meanIoU(trivial).value,
      meanIoUWithoutBackground: withoutBackground(trivial),
      pixelAccuracy: metrics.pixelAccuracy(trivial).value,
    },
  }
}
