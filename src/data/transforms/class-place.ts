// Crops that show a chosen class: where rare classes cover few pixels, most random crops hold none of them.
import type { Random } from "../random.ts"
import type { Sample } from "../voc-folder.ts"
import { type Geometry, Mapping } from "./sampling.ts"
import type { Size } from "./transform.ts"

/**
 * A place for a crop that contains a pixel of one of the classes: one of those that occur, each equally likely; one of its
 * pixels, each equally likely; and one of the crops in the picture that contain it, each equally likely.
 * @param classes labels, 0..K-1
 * @returns top and left, or undefined when the resized picture has no pixel of them (a turned one: no pixel's centre)
 */
export function placeOnClass(
  sample: Sample,
  geometry: Geometry,
  size: Size,
  classes: readonly number[],
  random: Random,
): Size | undefined {
  const { mask, width } = sample
  const map = new Mapping(sample, geometry)
  const counts = new Uint32Array(256)
  for (let i = 0; i < mask.length; i++) counts[mask[i]!]! += 1
  const present = classes.filter((label) => counts[label]! > 0)
  while (present.length > 0) {
    const [label] = present.splice(random.int(0, present.length - 1), 1)
    // From a random pixel of the class on, the first that is still there: reduced pictures have lost some, turned ones too.
    let skipped = random.int(0, counts[label!]! - 1)
    let start = 0
    while (mask[start] !== label || skipped-- > 0) start++
    for (let n = 0; n < mask.length; n++) {
      const at = (start + n) % mask.length
      if (mask[at] !== label) continue
      const [row, column] = map.fromInput(Math.floor(at / width), at % width)
      if (!map.toInput(row, column) || mask[map.nearest()] !== label) continue
      const place = (pixel: number, crop: number, scaled: number) =>
        random.int(Math.max(0, pixel - crop + 1), Math.max(0, Math.min(pixel, scaled - crop)))
      return [place(row, size[0], geometry.scaled[0]), place(column, size[1], geometry.scaled[1])]
    }
  }
  return undefined
}
