// Class weights from how often the classes occur, so that a class of few pixels is worth learning.
import { median, sum } from "../arrays.ts"
import { UserError } from "../errors.ts"

/** What was counted in the training masks; all are [K]. */
export interface ClassCounts {
  /** Pixels of the class. */
  readonly pixels: ArrayLike<number> & Iterable<number>
  /** Pixels of the images in which the class occurs, void left out. */
  readonly pixelsOfItsImages: ArrayLike<number>
}

/** One weight per class. A class that never occurs gets 1: it has no pixels to weigh. */
export type ClassWeighting = (counts: ClassCounts, options: { readonly beta: number }) => number[]

/** For each class that occurs; 1 for the others. */
const ofPresent = (pixels: ArrayLike<number>, weight: (count: number, k: number) => number): number[] =>
  Array.from(pixels, (count, k) => (count === 0 ? 1 : weight(count, k)))

/**
 * The weightings by name. To add one: write it here.
 * - inverse: N / (K' n_k), n_k of N pixels and K' classes that occur, so that all classes weigh the same
 * - median: median(f) / f_k, f_k the class's share of the pixels of the images in which it occurs.
 *   Eigen and Fergus 2015, https://arxiv.org/abs/1411.4734
 * - enet: 1 / log(1.02 + n_k / N), from 1.4 to 50. Paszke et al. 2016, https://arxiv.org/abs/1606.02147
 * - effective: (1 - beta) / (1 - beta^n_k), then scaled so that the mean over the classes that occur is 1.
 *   Cui et al. 2019, https://arxiv.org/abs/1901.05555
 */
export const classWeightings = {
  inverse: ({ pixels }) => {
    const classes = Array.from(pixels).filter((count) => count > 0).length
    return ofPresent(pixels, (count) => sum(pixels) / (classes * count))
  },
  median: ({ pixels, pixelsOfItsImages }) => {
    const frequencies = Array.from(pixels, (count, k) => (count === 0 ? Number.NaN : count / pixelsOfItsImages[k]!))
    const middle = median(frequencies.filter((frequency) => !Number.isNaN(frequency)))
    return ofPresent(pixels, (_, k) => middle / frequencies[k]!)
  },
  enet: ({ pixels }) => ofPresent(pixels, (count) => 1 / Math.log(1.02 + count / sum(pixels))),
  effective: ({ pixels }, { beta }) => {
    const counts = Array.from(pixels).filter((count) => count > 0)
    const weight = (count: number) => 1 / -Math.expm1(count * Math.log(beta)) // 1 - beta^n without cancellation
    const mean = sum(counts.map(weight)) / counts.length
    return ofPresent(pixels, (count) => weight(count) / mean)
  },
} satisfies Record<string, ClassWeighting>

export type ClassWeightingName = keyof typeof classWeightings
export const classWeightingNames = Object.keys(classWeightings) as ClassWeightingName[]

/** Cui's: the larger, the closer to inverse frequency. */
export const EFFECTIVE_BETA = 0.999999

/** What a configuration says: a weighting's name, or the weights themselves. */
export type ClassWeightsSpec = "none" | ClassWeightingName | readonly number[]

/**
 * @param names of the classes, for errors
 * @returns a weight per class, or null for none
 * @throws UserError when the number of given weights is not that of the classes, or all are 0
 */
export function classWeightsOf(
  spec: ClassWeightsSpec,
  counts: ClassCounts,
  names: readonly string[],
  { beta = EFFECTIVE_BETA }: { beta?: number | undefined } = {},
): number[] | null {
  if (spec === "none") return null
  if (typeof spec === "string") return classWeightings[spec](counts, { beta })
  if (spec.length === names.length && spec.some((weight) => weight > 0)) return [...spec]
  if (spec.length === names.length)
    throw new UserError("classWeights are all 0: nothing would count. Give some classes a weight above 0.")
  throw new UserError(
    `classWeights has ${spec.length} numbers, and there are ${names.length} classes: ${names.join(", ")}. Give one for each, in this order.`,
  )
}
