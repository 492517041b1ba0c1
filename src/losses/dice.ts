// Soft Dice loss: how little of prediction and truth is common to both, class by class, so that a small class counts like a large one.
import { aten, type Tensor, tidy } from "../torch/index.ts"
import { meanOfPresent, type OverlapOptions, overlapOf } from "./region.ts"

export interface DiceOptions extends OverlapOptions {
  /** In pixels; a larger one softens the loss of classes that have few. */
  eps?: number
}

/**
 * Soft Dice loss: 1 - mean_k (2 sum(p_k g_k) + eps) / (sum(p_k) + sum(g_k) + eps), p = softmax(logits).
 * Sums run over batch and pixels together; ignored pixels count in neither; classes absent from `target` are skipped.
 * With `weight` the mean is sum_k w_k (...) / sum_k w_k. When all pixels are ignored the loss is 0, and so is its gradient.
 * @param logits [N, K, h, w] float, before softmax; of the size of the target, or enlarged to it (bilinear)
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex` (255: VOC's void border)
 * @returns scalar [], 0 to 1
 * @throws ShapeError when the sizes of logits, target and weight do not fit
 * @throws RangeError when target has a label outside 0..K-1
 * @see Milletari et al. 2016, V-Net, https://arxiv.org/abs/1606.04797 (who square p and g in the denominator)
 */
export function dice(logits: Tensor, target: Tensor, { eps = 1e-5, ...options }: DiceOptions = {}): Tensor {
  return tidy(() => {
    const { both, predicted, actual, present } = overlapOf("dice", logits, target, options)
    const coefficient = both.mul(2).add(eps).div(predicted.add(actual).add(eps)) // [K]
    return meanOfPresent(aten.rsub_Scalar(coefficient, 1), present, options.weight)
  })
}
