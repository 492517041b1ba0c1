// How large a picture becomes: rules from its own size to another, without any pixels.
import { UserError } from "../../errors.ts"
import type { Size } from "./transform.ts"

export type SizeRange = {
  /** Pixels of the shorter side, unless the longer one would then have more than `max`. */
  readonly min: number
  /** Most pixels of the longer side. */
  readonly max: number
  /** Both sides are rounded up to a multiple of this, plus 1: DeepLab's output stride. */
  readonly factor?: number
}

/** @throws UserError for a range that is none */
export function checkRange({ min, max, factor }: SizeRange): void {
  if (!(Number.isInteger(min) && Number.isInteger(max) && min > 0 && max >= min)) {
    throw new UserError(`range: got ${min} to ${max}; expected two whole numbers of pixels, the smaller first.`)
  }
  if (factor !== undefined && !(Number.isInteger(factor) && factor > 0)) {
    throw new UserError(`range: got the factor ${factor}; expected a whole number above 0.`)
  }
}

/**
 * Keeps the shape, but for rounding down: the shorter side becomes `min`, or the longer one `max` where it would have more.
 * With a factor, `max` counts as the next lower multiple plus 1, and both sides are then rounded up to one.
 * As DeepLab's resize_to_range (TensorFlow models, research/deeplab).
 */
export function sizeInRange([height, width]: Size, { min, max, factor }: SizeRange): Size {
  const most = factor === undefined ? max : max - ((max - 1) % factor)
  const to = (pixels: number, side: number): Size => [
    Math.max(1, Math.floor((height * pixels) / side)),
    Math.max(1, Math.floor((width * pixels) / side)),
  ]
  const byShorter = to(min, Math.min(height, width))
  const fitting = Math.max(...byShorter) > most ? to(most, Math.max(height, width)) : byShorter
  if (factor === undefined) return fitting
  const [h, w] = fitting.map((side) => Math.ceil((side - 1) / factor) * factor + 1) as [number, number]
  return [h, w]
}
