// What a transform is: a function from a decoded 8-bit sample to the floats that a network takes.
import { UserError } from "../../errors.ts"
import type { Random } from "../random.ts"
import type { Sample } from "../voc-folder.ts"

/** Where a transform writes. What stood there before does not matter: every value is written. */
export type SampleArrays = {
  /** [3, height, width], normalised */
  readonly image: Float32Array
  /** [height, width] in 0..K-1, or 255 for void and padding */
  readonly mask: Uint8Array
  /** [height, width] share of the foreground from 0 to 1, or 255 for padding; only of data sets whose masks are mattes */
  readonly alpha?: Float32Array
}

export type TensorSample = SampleArrays & {
  readonly id: string
  readonly height: number
  readonly width: number
}

/** Asked once for each sample, as soon as the size is known: its place in a batch, for instance. */
export type ArraysFor = (height: number, width: number) => SampleArrays

/** What the loader applies to each sample; all its randomness comes from `random`. */
export type Transform = (sample: Sample, random: Random, arraysFor?: ArraysFor) => TensorSample

/** New arrays, for who brings none. */
export const newArrays =
  ({ alpha }: Sample): ArraysFor =>
  (height, width) => ({
    image: new Float32Array(3 * height * width),
    mask: new Uint8Array(height * width),
    ...(alpha && { alpha: new Float32Array(height * width) }),
  })

/** [height, width] in pixels. */
export type Size = readonly [height: number, width: number]

/** @throws UserError unless both are whole numbers of pixels */
export function checkSize(name: string, size: Size): Size {
  if (size.length === 2 && size.every((n) => Number.isInteger(n) && n > 0)) return size
  throw new UserError(`${name}: got ${size.join(" x ")}; expected height and width in whole pixels.`)
}

/** @throws UserError unless each is from 0 to 1 */
export function checkProbabilities(probabilities: Readonly<Record<string, number>>): void {
  for (const [name, p] of Object.entries(probabilities)) {
    if (!(p >= 0 && p <= 1)) throw new UserError(`${name}: got ${p}; expected a probability from 0 to 1.`)
  }
}
