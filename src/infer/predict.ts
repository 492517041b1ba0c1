// Whole-image inference: one image in, one label per pixel out. The model pads and crops itself.
import type { SegmentationModel } from "../models/index.ts"
import { aten, fromData, noGrad, type Tensor, tidy } from "../torch/index.ts"

/**
 * The most probable class of each pixel.
 * @param model in eval() mode: batch-norm with one image's own statistics would give something else
 * @param images [N, 3, H, W] float32, normalised, row by row
 * @returns [N, H, W] int64, owned by the caller
 */
export function predictLabels(
  model: SegmentationModel,
  images: Float32Array,
  [n, h, w]: readonly [number, number, number],
): Tensor {
  if (model.training) throw new Error("predictLabels: the model is in training mode; call model.eval() first.")
  return tidy(() => {
    using _ = noGrad()
    const { logits } = model.call(fromData(images, [n, 3, h, w])) // [N, K, H, W]
    return aten.argmax(logits, { dim: 1 })
  })
}
