// The whole picture at one size, whatever its shape was.
import { affineOf, type Normalization } from "./normalization.ts"
import { resizedTo } from "./resized.ts"
import { checkSize, type Size, type Transform } from "./transform.ts"

export type ResizeOptions = Normalization & {
  /** [height, width] in pixels */
  readonly size: Size
  /** Which pixels stay where they are, see sampling.ts. */
  readonly alignCorners?: boolean
}

export function resize({ size, alignCorners = false, ...normalization }: ResizeOptions): Transform {
  checkSize("size", size)
  return resizedTo(() => size, alignCorners, affineOf(normalization))
}
