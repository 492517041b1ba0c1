// Tversky loss: Dice with separate prices for what is wrongly claimed and what is missed. Missing a small class is the usual
// failure, so that costs more here.
import { UserError } from "../errors.ts"
import { aten, type Tensor, tidy } from "../torch/index.ts"
import { meanOfPresent, type OverlapOptions, overlapOf } from "./region.ts"

export interface TverskyOptions extends OverlapOptions {
  /** Price of a false positive. */
  alpha?: number
  /** Price of a false negative. */
  beta?: number
  /** Exponent of each class's loss: the focal Tversky loss has 0.75 (which its authors write 1/gamma, gamma = 4/3). */
  gamma?: number
  /** In pixels; a larger one softens the loss of classes that have few. */
  eps?: number
}

/**
 * Tversky loss: mean_k (1 - (TP_k + eps) / (TP_k + alpha FP_k + beta FN_k + eps))^gamma, with TP_k = sum(p_k g_k),
 * FP_k = sum(p_k (1 - g_k)), FN_k = sum((1 - p_k) g_k), p = softmax(logits). alpha = beta = 1/2 is Dice, both 1 soft IoU.
 * Sums run over batch and pixels together; ignored pixels count in none; classes absent from `target` are skipped.
 * With `weight` the mean is sum_k w_k (...) / sum_k w_k. When all pixels are ignored the loss is 0, and so is its gradient.
 * @param logits [N, K, h, w] float, before softmax; of the size of the target, or enlarged to it (bilinear)
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex`
 * @returns scalar [], 0 to 1
 * @throws ShapeError when the sizes of logits, target and weight do not fit
 * @throws RangeError when target has a label outside 0..K-1; UserError when an option is outside its range
 * @see Salehi et al. 2017, https://arxiv.org/abs/1706.05721 (alpha 0.3 and beta 0.7 are their best); with gamma:
 * Abraham & Khan 2018, A novel focal Tversky loss, https://arxiv.org/abs/1810.07842
 */
export function tversky(
  logits: Tensor,
  target: Tensor,
  { alpha = 0.3, beta = 0.7, gamma = 1, eps = 1e-5, ...options }: TverskyOptions = {},
): Tensor {
  if (!(alpha >= 0 && beta > 0 && gamma > 0)) {
    throw new UserError(
      `tversky: alpha is ${alpha}, beta ${beta}, gamma ${gamma}; expected alpha >= 0, beta > 0 and gamma > 0.`,
    )
  }
  return tidy(() => {
    const { both, predicted, actual, present } = overlapOf("tversky", logits, target, options)
    const wrong = predicted.sub(both).mul(alpha).add(actual.sub(both).mul(beta)) // [K]
    const index = both.add(eps).div(both.add(wrong).add(eps))
    const missed = aten.rsub_Scalar(index, 1)
    // At 0 a root has no finite slope, and rounding may lead below it.
    return meanOfPresent(gamma === 1 ? missed : missed.clamp({ min: 1e-6 }).pow(gamma), present, options.weight)
  })
}
