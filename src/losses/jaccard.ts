// Soft IoU loss, also Jaccard loss: the measure that segmentation is judged by, made of probabilities.
import { aten, type Tensor, tidy } from "../torch/index.ts"
import { meanOfPresent, type OverlapOptions, overlapOf } from "./region.ts"

export interface JaccardOptions extends OverlapOptions {
  /** In pixels; a larger one softens the loss of classes that have few. */
  eps?: number
}

/**
 * Soft IoU loss: 1 - mean_k (I_k + eps) / (U_k + eps), I_k = sum(p_k g_k), U_k = sum(p_k) + sum(g_k) - I_k, p = softmax(logits).
 * Sums run over batch and pixels together; ignored pixels count in none; classes absent from `target` are skipped.
 * With `weight` the mean is sum_k w_k (...) / sum_k w_k. When all pixels are ignored the loss is 0, and so is its gradient.
 * @param logits [N, K, h, w] float, before softmax; of the size of the target, or enlarged to it (bilinear)
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex`
 * @returns scalar [], 0 to 1
 * @throws ShapeError when the sizes of logits, target and weight do not fit
 * @throws RangeError when target has a label outside 0..K-1
 * @see Rahman & Wang 2016, Optimizing Intersection-Over-Union in Deep Neural Networks, https://doi.org/10.1007/978-3-319-50835-1_22
 */
export function jaccard(logits: Tensor, target: Tensor, { eps = 1e-5, ...options }: JaccardOptions = {}): Tensor {
  return tidy(() => {
    const { both, predicted, actual, present } = overlapOf("jaccard", logits, target, options)
    const either = predicted.add(actual).sub(both)
    const iou = both.add(eps).div(either.add(eps)) // [K]
    return meanOfPresent(aten.rsub_Scalar(iou, 1), present, options.weight)
  })
}
