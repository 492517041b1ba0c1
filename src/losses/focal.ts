// Focal loss: cross-entropy that turns from the pixels which are right already to those that are not, so that the many easy
// pixels of the background do not drown the few hard ones.
import { UserError } from "../errors.ts"
import { aten, type Tensor, tidy } from "../torch/index.ts"
import { checkShapes } from "./check.ts"
import { type CrossEntropyOptions, crossEntropy, reduceLosses, weigh } from "./cross-entropy.ts"

export interface FocalOptions extends Omit<CrossEntropyOptions, "labelSmoothing"> {
  /** How much easy pixels are turned down; 0 is cross-entropy, the paper's best is 2. */
  gamma?: number
}

/**
 * Focal loss: the mean of w_t (1 - p_t)^gamma (-log p_t) over the pixels that are not ignored, p = softmax(logits), t the
 * label. The denominators are cross-entropy's (see `Reduction`), so that gamma 0 is cross-entropy; the paper, about boxes, divides
 * by the number of objects. The paper's alpha is `weight`.
 * @param logits [N, K, H, W] float, before softmax
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex` (255: VOC's void border)
 * @returns scalar [], or [N, H, W] with reduction "none"
 * @throws ShapeError, RangeError as crossEntropy; UserError when gamma is below 0
 * @see Lin et al. 2017, https://arxiv.org/abs/1708.02002
 */
export function focal(
  logits: Tensor,
  target: Tensor,
  { weight, ignoreIndex = 255, reduction = "mean", gamma, total }: FocalOptions = {},
): Tensor {
  checkShapes("focal", logits, target, weight)
  return tidy(() => {
    const plain = crossEntropy(logits, target, { ignoreIndex, reduction: "none" })
    const losses = weigh(focus(plain, gamma), target, weight, ignoreIndex)
    return reduceLosses(losses, target, { weight, ignoreIndex, reduction, total })
  })
}

/** (1 - p)^gamma (-log p) of each pixel's -log p; gamma 2 is the paper's. @throws UserError when gamma is below 0 */
export function focus(losses: Tensor, gamma = 2): Tensor {
  if (!(gamma >= 0)) throw new UserError(`focal: gamma is ${gamma}; expected 0 (cross-entropy) or more, such as 2.`)
  if (gamma === 0) return losses.alias()
  return tidy(() => {
    // 1 - p without cancellation. The bound keeps the power's slope finite where p is 1 and gamma below 1.
    const missing = aten.expm1(losses.neg()).neg().clamp({ min: 1e-7 })
    return missing.pow(gamma).mul(losses)
  })
}
