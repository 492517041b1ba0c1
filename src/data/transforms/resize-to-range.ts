// The whole picture in its own shape, its sides brought into a range: DeepLab's resize_to_range.
import { affineOf, type Normalization } from "./normalization.ts"
import { resizedTo } from "./resized.ts"
import { checkRange, type SizeRange, sizeInRange } from "./size-rules.ts"
import type { Transform } from "./transform.ts"

export type ResizeToRangeOptions = Normalization & {
  readonly range: SizeRange
  /** Which pixels stay where they are, see sampling.ts. */
  readonly alignCorners?: boolean
}

export function resizeToRange({ range, alignCorners = false, ...normalization }: ResizeToRangeOptions): Transform {
  checkRange(range)
  return resizedTo((size) => sizeInRange(size, range), alignCorners, affineOf(normalization))
}
