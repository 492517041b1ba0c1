// One batch, from files to two arrays. The same function runs in a worker thread and on the main thread, so that what a
// batch holds depends on its plan alone.
import { threadId } from "node:worker_threads"
import { clock } from "../clock.ts"
import { UserError } from "../errors.ts"
import { randomFor } from "./random.ts"
import type { Transform } from "./transforms/index.ts"
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

export type BatchArrays = {
  /** [n, 3, h, w], normalised */
  readonly images: Float32Array
  /** [n, h, w] in 0..K-1, or 255 for void */
  readonly masks: Uint8Array
  /** [n, h, w] share of the foreground from 0 to 1, or 255 for void; only of data sets whose masks are mattes */
  readonly alpha?: Float32Array
}

/** What was done to a sample, and when: microseconds of `clock()`. */
export type LoaderSpan = {
  readonly name: "decode" | "transform"
  readonly id: string
  readonly begin: number
  readonly end: number
}

export type Batch = BatchArrays & {
  readonly shape: readonly [n: number, h: number, w: number]
  readonly ids: readonly string[]
  readonly step: number
  readonly epoch: number
  /** How the batch was made, of a loader that is profiled, and in which of its threads; 0: the main one. */
  readonly profile?: { readonly worker: number; readonly spans: readonly LoaderSpan[] }
}

/**
 * Each sample is written straight into its place in the batch's arrays.
 * @param used arrays of an earlier batch, to be written again if they have the right size: new memory costs a fifth of a
 *   cached VOC crop's time, most of it in the kernel, which hands it out cleared and page by page
 * @param isProfiled whether it says when each sample was decoded and transformed
 * @throws UserError when a sample cannot be read, or samples come out in different sizes
 */
export async function makeBatch(
  source: SampleSource,
  transform: Transform,
  plan: BatchPlan,
  { used, isProfiled = false }: { used?: BatchArrays | undefined; isProfiled?: boolean } = {},
): Promise<Batch> {
  const { seed, epoch, step, indices } = plan
  const ids: string[] = []
  const spans: LoaderSpan[] = []
  let arrays: BatchArrays | undefined
  let [height, width] = [0, 0]
  for (const [position, index] of indices.entries()) {
    const start = clock()
    const sample = await source.readSample(index)
    const decoded = clock()
    transform(sample, randomFor(seed, epoch, index), (h, w) => {
      if (arrays === undefined) {
        ;[height, width] = [h, w]
        arrays = arraysFor(indices.length * h * w, sample.alpha !== undefined, used)
      } else if (h !== height || w !== width) {
        throw new UserError(
          `Samples of one batch have different sizes: "${ids[0]}" is ${width}x${height} and "${sample.id}" is ${w}x${h}. ` +
            `Use batch size 1, or a transform that gives one size (randomCrop, resize).`,
        )
      }
      const [from, to] = [position * h * w, (position + 1) * h * w]
      const { images, masks, alpha } = arrays
      return {
        image: images.subarray(3 * from, 3 * to),
        mask: masks.subarray(from, to),
        alpha: alpha?.subarray(from, to),
      }
    })
    if (isProfiled) {
      spans.push({ name: "decode", id: sample.id, begin: start, end: decoded })
      spans.push({ name: "transform", id: sample.id, begin: decoded, end: clock() })
    }
    ids.push(sample.id)
  }
  return {
    ...(arrays ?? arraysFor(0, false)),
    shape: [indices.length, height, width],
    ids,
    step,
    epoch,
    ...(isProfiled && { profile: { worker: threadId, spans } }),
  }
}

/** The parts of one batch, which have samples of one size, as a whole. */
export function joinBatches(parts: readonly Batch[]): Batch {
  const [first] = parts as [Batch]
  if (parts.length === 1) return first
  const [, h, w] = first.shape
  const ids = parts.flatMap(({ ids }) => ids)
  const whole = arraysFor(ids.length * h * w, first.alpha !== undefined)
  let at = 0
  for (const { images, masks, alpha } of parts) {
    whole.images.set(images, 3 * at)
    whole.masks.set(masks, at)
    if (alpha) whole.alpha?.set(alpha, at)
    at += masks.length
  }
  return { ...first, ...whole, ids, shape: [ids.length, h, w] }
}

function arraysFor(pixels: number, hasAlpha: boolean, used?: BatchArrays): BatchArrays {
  if (used?.masks.length === pixels && (used.alpha !== undefined) === hasAlpha) return used
  return {
    images: new Float32Array(3 * pixels),
    masks: new Uint8Array(pixels),
    ...(hasAlpha && { alpha: new Float32Array(pixels) }),
  }
}

/** Of a batch the arrays alone. */
export const arraysOf = ({ images, masks, alpha }: Batch): BatchArrays => ({ images, masks, ...(alpha && { alpha }) })

/** The memory of arrays that go to another thread. */
export const buffersOf = ({ images, masks, alpha }: BatchArrays) =>
  [images, masks, ...(alpha ? [alpha] : [])].map(({ buffer }) => buffer as ArrayBuffer)
