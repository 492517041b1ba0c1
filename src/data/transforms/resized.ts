// What resize and resize-to-range share: a whole picture at a size that a rule gives.
import type { Affine } from "./normalization.ts"
import { sampleView } from "./sampling.ts"
import { newArrays, type Size, type Transform } from "./transform.ts"

export function resizedTo(rule: (size: Size) => Size, alignCorners: boolean, affine: Affine): Transform {
  return (sample, _random, arraysFor = newArrays(sample)) => {
    const [height, width] = rule([sample.height, sample.width])
    const size = [height, width] as const
    const out = arraysFor(height, width)
    const upright = { top: 0, left: 0, degrees: 0, isFlipped: false, isFlippedVertically: false }
    sampleView(sample, { ...upright, scaled: size, size, alignCorners }, affine, [0, 0, 0], out)
    return { ...out, id: sample.id, height, width }
  }
}
