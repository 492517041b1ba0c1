// Evaluation: every image of a split at full size, and one confusion matrix over all of them.
import type { Batch } from "../data/batch.ts"
import { readBytes } from "../data/files.ts"
import { ignoreIndex } from "../data/label-map.ts"
import { defaultWorkers, Loader } from "../data/loader.ts"
import { readPngHeader } from "../data/png.ts"
import { type Normalization, toTensorData } from "../data/transforms/index.ts"
import type { VocFolder } from "../data/voc-folder.ts"
import { ConfusionMatrix } from "../metrics/index.ts"
import type { SegmentationModel } from "../models/index.ts"
import { type InferenceOptions, segment } from "./segment.ts"

/** Images at once and pixels of a batch at most: what more would gain is little, and memory is for others too. */
const TOGETHER = { images: 4, pixels: 2 ** 20 }

/**
 * Whole images in order, each at its own size; neighbours of one size come together. Median milliseconds an image of 480x360, two
 * cores, 8 rounds, by 1, 2, 4 and 8: LR-ASPP on mobilenet_v2_0.35 69, 46, 36, 29; DeepLabV3 on ResNet-18 by 1, 2 and 4: 170, 158,
 * 150; UNet-16 270 each. The labels are the same.
 */
export function evaluationLoader(
  dataset: VocFolder,
  { workers = defaultWorkers(), normalization = {} as Normalization } = {},
): Loader {
  const passSizes = sameSized(dataset)
  return new Loader(dataset, { batchSize: 1, passSizes, workers, transform: { name: "whole", ...normalization } })
}

/** How many images after one another have one size, from the headers of their masks: 180 take 11 ms. */
function sameSized({ files: { masks } }: VocFolder): number[] {
  const batches: { size: string; count: number; most: number }[] = []
  for (const file of masks) {
    const { size, pixels } = sizeOf(file)
    const last = batches.at(-1)
    if (last && last.size === size && last.count < last.most) last.count++
    else batches.push({ size, count: 1, most: Math.min(TOGETHER.images, Math.floor(TOGETHER.pixels / pixels)) })
  }
  return batches.map(({ count }) => count)
}

function sizeOf(file: string): { size: string; pixels: number } {
  try {
    const { width, height } = readPngHeader(readBytes(file, "mask"), file)
    return { size: `${width}x${height}`, pixels: width * height }
  } catch {
    return { size: file, pixels: Number.POSITIVE_INFINITY } // alone: what is wrong with it is said when its turn comes
  }
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
    segment(model, toTensorData({ width, height, data: image }, normalization), [1, height, width])
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
