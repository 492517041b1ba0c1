// One batch, from files to two arrays. The same function runs in a worker thread and on the main thread, so that what a
// batch holds depends on its plan alone.
import { UserError } from "../errors.ts"
import { randomFor } from "./random.ts"
import type { Transform } from "./transforms.ts"
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
  readonly shape: readonly [n: number, h: number, w: number]
  readonly ids: readonly string[]
  readonly step: number
  readonly epoch: number
}

/** @throws UserError when a sample cannot be read, or samples come out in different sizes */
export async function makeBatch(source: SampleSource, transform: Transform, plan: BatchPlan): Promise<Batch> {
  const { seed, epoch, step, indices } = plan
  const ids: string[] = []
  let [images, masks, height, width] = [new Float32Array(), new Uint8Array(), 0, 0]
  for (const [position, index] of indices.entries()) {
    const sample = transform(await source.readSample(index), randomFor(seed, epoch, index))
    if (position === 0) {
      ;({ height, width } = sample)
      images = new Float32Array(indices.length * 3 * height * width)
      masks = new Uint8Array(indices.length * height * width)
    } else if (sample.height !== height || sample.width !== width) {
      throw new UserError(
        `Samples of one batch have different sizes: "${ids[0]}" is ${width}x${height} and "${sample.id}" is ` +
          `${sample.width}x${sample.height}. Use batch size 1, or a transform that gives one size (randomCrop, resize).`,
      )
    }
    images.set(sample.image, position * sample.image.length)
    masks.set(sample.mask, position * sample.mask.length)
    ids.push(sample.id)
  }
  return { images, masks, shape: [indices.length, height, width], ids, step, epoch }
}
