// Evaluation: every image of a split at full size, and one confusion matrix over all of them.
import type { Batch } from "../data/batch.ts"
import { readBytes } from "../data/files.ts"
import { ignoreIndex } from "../data/label-map.ts"
import { defaultWorkers, Loader, type Share } from "../data/loader.ts"
import { readPngHeader } from "../data/png.ts"
import { type Normalization, toTensorData } from "../data/transforms/index.ts"
import type { VocFolder } from "../data/voc-folder.ts"
import { attempt } from "../errors.ts"
import type { ImageSize } from "../metrics/image-size.ts"
import { ConfusionMatrix } from "../metrics/index.ts"
import type { SegmentationModel } from "../models/index.ts"
import { sameSized } from "./same-size.ts"
import { type InferenceOptions, segment } from "./segment.ts"

/** Whole images in order, each at its own size; neighbours of one size come together (see sameSized). */
export function evaluationLoader(
  dataset: VocFolder,
  {
    workers = defaultWorkers(),
    normalization = {} as Normalization,
    share,
  }: { workers?: number; normalization?: Normalization; share?: Share } = {},
): Loader {
  const passSizes = sameSized(sizesOf(dataset))
  const transform = { name: "whole", ...normalization } as const
  return new Loader(dataset, { batchSize: 1, passSizes, workers, transform, share })
}

/** The sizes of the images, from the headers of their masks: 180 take 11 ms. */
const sizesOf = ({ files: { masks } }: VocFolder): (ImageSize | null)[] =>
  masks.map((file) =>
    attempt(
      (): ImageSize => readPngHeader(readBytes(file, "mask"), file),
      () => null, // what is wrong with it is said when its turn comes
    ),
  )

const TIMED_IMAGES = 5

/** Seconds that `evaluate` will take: by the median of a few of the images, because the first of a size takes longer. */
export async function estimateEvaluation(
  model: SegmentationModel,
  dataset: VocFolder,
  { normalization = {} as Normalization, inference = {} as InferenceOptions } = {},
): Promise<number> {
  const wasTraining = model.training
  model.eval()
  const seconds: number[] = []
  for (let k = 0; k < TIMED_IMAGES; k++) {
    const index = Math.floor((k * dataset.ids.length) / TIMED_IMAGES)
    const start = performance.now()
    const { image, width, height } = await dataset.readSample(index)
    segment(model, toTensorData({ width, height, data: image }, normalization), [1, height, width], inference)
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
  /** How the model is applied to each image; default: to the whole image, once. */
  inference?: InferenceOptions
}

/** @param batches of a whole split; all images of a batch have one size */
export async function evaluate(
  model: SegmentationModel,
  batches: AsyncIterable<Batch>,
  numClasses: number,
  { onBatch, signal, inference }: EvaluateOptions = {},
): Promise<ConfusionMatrix> {
  const matrix = new ConfusionMatrix(numClasses)
  const wasTraining = model.training
  model.eval()
  try {
    for await (const batch of batches) {
      const { labels } = segment(model, batch.images, batch.shape, inference)
      matrix.add(labels, batch.masks, { ignoreIndex })
      onBatch?.(batch, labels)
      signal?.throwIfAborted()
    }
  } finally {
    model.train(wasTraining)
  }
  return matrix
}
