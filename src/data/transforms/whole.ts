// The whole picture at its own size: for evaluation.
import { affineOf, type Normalization, toTensorData } from "./normalization.ts"
import { newArrays, type Transform } from "./transform.ts"

export function whole(normalization: Normalization = {}): Transform {
  affineOf(normalization) // checks it here, before the first sample
  return (sample, _random, arraysFor = newArrays(sample)) => {
    const { id, height, width, image, mask, alpha } = sample
    const out = arraysFor(height, width)
    toTensorData({ height, width, data: image }, normalization, out.image)
    out.mask.set(mask)
    if (alpha) out.alpha?.set(alpha)
    return { ...out, id, height, width }
  }
}
