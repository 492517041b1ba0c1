// What photometric operations work on: a crop's colours between sampling and normalisation, and which of them are picture.
// Padding is not: it neither changes nor counts, so that after normalisation it is what it would be without them.
import type { Random } from "../random.ts"
import type { Spans } from "./sampling.ts"

export type Picture = {
  readonly height: number
  readonly width: number
  /** [3, height, width] from 0 to 1 */
  readonly data: Float32Array
  readonly spans: Spans
}

/** Changes the picture's colours in place. */
export type Photometric = (picture: Picture, random: Random) => void

/** ITU-R 601-2 luma, as torchvision's rgb_to_grayscale. */
export const luma = (red: number, green: number, blue: number) => 0.2989 * red + 0.587 * green + 0.114 * blue

/** Calls `change` with where each row's part of the picture begins and ends in the first channel's plane. */
export function forEachRow({ spans, height, width }: Picture, change: (from: number, to: number) => void): void {
  for (let y = 0; y < height; y++) {
    if (spans.to[y]! > spans.from[y]!) change(y * width + spans.from[y]!, y * width + spans.to[y]!)
  }
}
