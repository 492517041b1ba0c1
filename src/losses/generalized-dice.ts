// Generalised Dice loss: one Dice coefficient of all classes together, in which each weighs by how few pixels it has.
import { type Tensor, tidy } from "../torch/index.ts"
import { type OverlapOptions, overlapOf } from "./region.ts"

/**
 * Generalised Dice loss: 1 - 2 sum_k(w_k sum(p_k g_k)) / sum_k(w_k (sum(p_k) + sum(g_k))), p = softmax(logits) and
 * w_k = 1 / sum(g_k)^2, times `weight` where given.
 * Sums run over batch and pixels together; ignored pixels count in neither; classes absent from `target` weigh nothing.
 * When all pixels are ignored the loss is 0, and so is its gradient.
 * @param logits [N, K, h, w] float, before softmax; of the size of the target, or enlarged to it (bilinear)
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex`
 * @returns scalar [], 0 to 1
 * @throws ShapeError when the sizes of logits, target and weight do not fit
 * @throws RangeError when target has a label outside 0..K-1
 * @see Sudre et al. 2017, Generalised Dice overlap, https://arxiv.org/abs/1707.03237
 */
export function generalizedDice(logits: Tensor, target: Tensor, options: OverlapOptions = {}): Tensor {
  return tidy(() => {
    const { both, predicted, actual, present } = overlapOf("generalizedDice", logits, target, options)
    const w = (options.weight ? present.mul(options.weight) : present).div(actual.mul(actual)) // [K]
    const areas = w.mul(predicted.add(actual)).sum()
    const missed = areas.sub(w.mul(both).sum(), { alpha: 2 })
    return missed.div(areas.add(areas.eq(0)))
  })
}
