// Boundary loss: the area between the contours of prediction and truth, each part by its distance from the truth's contour.
import { aten, squaredDistance, type Tensor, tidy } from "../torch/index.ts"
import type { LossOptions } from "./index.ts"
import { meanOfPixels, meanOfPresent, presentIn, regionsOf } from "./region.ts"

/**
 * Boundary loss: mean_nk mean_i phi_i p_i over the pixels i of each image n and class k, p = softmax(logits). phi_i is the signed
 * distance in pixels from pixel i to the nearest pixel on the other side of the truth's contour, negative inside, taken as a constant.
 * A class counts in the images where the truth has it; where it fills the image there is no contour, and phi is 0.
 * Ignored pixels are outside every class when distances are measured; they count neither in the sum nor in the mean.
 * With `weight` the mean is sum_nk w_k (...) / sum_nk w_k. When all pixels are ignored the loss is 0, and so is its gradient.
 * It is below 0 for good predictions, and hardly tells empty ones from others: the authors add it to generalised Dice, with a factor
 * that rises from 0.01 during training.
 * @param logits [N, K, H, W] float, before softmax
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex`
 * @returns scalar [], in pixels
 * @throws ShapeError when the sizes of logits, target and weight do not fit
 * @throws RangeError when target has a label outside 0..K-1
 * @see Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation, https://arxiv.org/abs/1812.07032 (whose code
 * measures to the outermost pixel inside, so that phi is larger by 1 there)
 */
export function boundary(
  logits: Tensor,
  target: Tensor,
  { weight, ignoreIndex = 255, total }: LossOptions = {},
): Tensor {
  return tidy(() => {
    const { probability, truth, counted } = regionsOf("boundary", logits, target, { weight, ignoreIndex })
    const distance = squaredDistance(truth).to({ dtype: probability.dtype }).sqrt() // [N, K, H, W]
    const signed = aten.where_self(truth, distance.neg(), distance)
    return meanOfPresent(meanOfPixels(probability.mul(signed), counted), presentIn(truth), weight, total)
  })
}
