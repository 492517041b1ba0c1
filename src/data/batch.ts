// One batch, from files to two arrays. The same function runs in a worker thread and on the main thread, so that what a
// batch holds depends on its plan alone.
import { UserError } from "../errors.ts"
import { randomFor } from "./random.ts"
import type { SampleArrays, Transform } from "./transforms/index.ts"
import type { SampleSource } from "./voc-folder.ts"

/** Which samples, for which step: all that a batch depends on besides data set and transform. */
export type BatchPlan = {
  readonly seed: number
  readonly epoch: number
  /** Counts batches: over all epochs in training, within the pass in evaluation. */
  readonly step: number
  /** Positions in the data set. */
  readonly indices: readonly number[]
}

export type Batch = {
  /** [n, 3, h, w], normalised */
  readonly images: Float32Array
  /** [n, h, w] in 0..K-1, or 255 for void */
  readonly masks: Uint8Array
  /** [n, h, w] share of the foreground from 0 to 1, or 255 for void; only of data sets whose masks are mattes */
  readonly alpha?: Float32Array
  readonly shape: readonly [n: number, h: number, w: number]
  readonly ids: readonly string[]
  readonly step: number
  readonly epoch: number
}

/**
 * Each sample is written straight into its place in the batch's arrays.
 * @throws UserError when a sample cannot be read, or samples come out in different sizes
 */
export async function makeBatch(source: SampleSource, transform: Transform, plan: BatchPlan): Promise<Batch> {
  const { seed, epoch, step, indices } = plan
  const ids: string[] = []
  let arrays: SampleArrays | undefined // of the whole batch
  let [height, width] = [0, 0]
  for (const [position, index] of indices.entries()) {
    const sample = await source.readSample(index)
    transform(sample, randomFor(seed, epoch, index), (h, w) => {
      if (arrays === undefined) {
        ;[height, width] = [h, w]
        arrays = batchArrays(indices.length, h, w, sample.alpha !== undefined)
      } else if (h !== height || w !== width) {
        throw new UserError(
          `Samples of one batch have different sizes: "${ids[0]}" is ${width}x${height} and "${sample.id}" is ${w}x${h}. ` +
            `Use batch size 1, or a transform that gives one size (randomCrop, resize).`,
        )
      }
      const [from, to] = [position * h * w, (position + 1) * h * w]
      const { image, mask, alpha } = arrays
      return {
        image: image.subarray(3 * from, 3 * to),
        mask: mask.subarray(from, to),
        alpha: alpha?.subarray(from, to),
      }
    })
    ids.push(sample.id)
  }
  const { image: images, mask: masks, alpha } = arrays ?? batchArrays(0, 0, 0, false)
  return { images, masks, ...(alpha && { alpha }), shape: [indices.length, height, width], ids, step, epoch }
}

function batchArrays(n: number, h: number, w: number, hasAlpha: boolean): SampleArrays {
  return {
    image: new Float32Array(n * 3 * h * w),
    mask: new Uint8Array(n * h * w),
    ...(hasAlpha && { alpha: new Float32Array(n * h * w) }),
  }
}
