// Gaussian blur at random, as torchvision's gaussian_blur with a kernel that reaches to 3 sigma.
import { UserError } from "../../errors.ts"
import type { Photometric, Picture } from "./picture.ts"
import { checkProbabilities } from "./transform.ts"

export type GaussianBlurOptions = {
  /** Probability. */
  readonly blur?: number
  /** Smallest and largest standard deviation, in pixels of the crop. */
  readonly blurSigma?: readonly [min: number, max: number]
}

export function gaussianBlur({
  blur: probability = 0,
  blurSigma: [min, max] = [0.1, 2],
}: GaussianBlurOptions): Photometric | undefined {
  checkProbabilities({ blur: probability })
  if (!(min > 0 && max >= min && max < Number.POSITIVE_INFINITY)) {
    throw new UserError(`blurSigma: got ${min} to ${max}; expected two numbers of pixels above 0, the smaller first.`)
  }
  if (probability === 0) return undefined
  return (picture, random) => {
    const isBlurred = random.chance(probability)
    const sigma = random.uniform(min, max)
    if (isBlurred) blur(picture, sigma)
  }
}

/**
 * Rows, then columns, each mirrored at the picture's edges (the edge pixel itself does not repeat). Where a row or a
 * column of the picture ends is taken from the picture, not from the crop, so padding does not run into it.
 * @param sigma standard deviation in pixels; the kernel has 2 ceil(3 sigma) + 1 weights, with sum 1
 */
export function blur({ data, height, width, spans }: Picture, sigma: number): void {
  const reach = Math.ceil(3 * sigma)
  const weights = Float64Array.from({ length: reach + 1 }, (_, k) => Math.exp(-0.5 * (k / sigma) ** 2))
  const sum = 2 * weights.reduce((a, b) => a + b) - weights[0]!
  for (let k = 0; k <= reach; k++) weights[k]! /= sum

  // Of each column the first row and the row behind the last: a picture is convex, so nothing lies between but picture.
  const top = new Int32Array(width).fill(height)
  const bottom = new Int32Array(width)
  for (let y = 0; y < height; y++) {
    for (let x = spans.from[y]!; x < spans.to[y]!; x++) {
      if (y < top[x]!) top[x] = y
      bottom[x] = y + 1
    }
  }
  const line = new Float64Array(Math.max(height, width) + 2 * reach)
  for (let c = 0; c < 3; c++) {
    const start = c * height * width
    for (let y = 0; y < height; y++) {
      filter(data, start + y * width + spans.from[y]!, 1, spans.to[y]! - spans.from[y]!, weights, line)
    }
    for (let x = 0; x < width; x++) {
      filter(data, start + top[x]! * width + x, width, bottom[x]! - top[x]!, weights, line)
    }
  }
}

/**
 * Filters `count` values that lie `step` apart, in place. `line` holds them meanwhile, with their mirrored ends.
 * @param weights of the value itself, of its two neighbours, of the two after those ...
 */
function filter(
  data: Float32Array,
  at: number,
  step: number,
  count: number,
  weights: Float64Array,
  line: Float64Array,
) {
  if (count <= 0) return
  const reach = weights.length - 1
  for (let i = 0; i < count; i++) line[i + reach] = data[at + i * step]!
  for (let k = 1; k <= reach; k++) {
    line[reach - k] = data[at + mirrored(-k, count) * step]!
    line[reach + count - 1 + k] = data[at + mirrored(count - 1 + k, count) * step]!
  }
  for (let i = 0; i < count; i++) {
    const center = i + reach
    let value = weights[0]! * line[center]!
    for (let k = 1; k <= reach; k++) value += weights[k]! * (line[center - k]! + line[center + k]!)
    data[at + i * step] = value
  }
}

/** -1, -2 ... as 1, 2 ..., and the same at the other end; again and again where there are fewer pixels than the kernel. */
function mirrored(i: number, count: number): number {
  if (i >= 0 && i < count) return i
  if (count === 1) return 0
  const period = 2 * (count - 1)
  const j = ((i % period) + period) % period
  return j < count ? j : period - j
}
