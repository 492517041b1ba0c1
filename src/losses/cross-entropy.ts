// Cross-entropy: the loss of a classifier of pixels, and the baseline for every other loss.
import { aten, call, type Tensor, tidy } from "../torch/index.ts"
import { checkLabels, checkShapes, namingLabels } from "./check.ts"
import { quotient, type Total } from "./totals.ts"

/**
 * What the weighted sum of the pixels' losses is divided by. mean: the sum of the pixels' weights, as in PyTorch, so that
 * weights twice as large change nothing. mean-over-pixels: the number of pixels that are not ignored, as in TensorFlow's
 * DeepLab, so that they double the loss. sum: nothing. none gives the loss of each pixel, [N, H, W].
 */
export type Reduction = "mean" | "mean-over-pixels" | "sum" | "none"

export interface CrossEntropyOptions {
  /** [K], one per class: how much its pixels count. */
  weight?: Tensor
  /** Label of pixels that count nowhere: VOC's void border. */
  ignoreIndex?: number
  reduction?: Reduction
  /** Share of the target that is spread evenly over all classes, 0 to 1. Szegedy et al. 2016, https://arxiv.org/abs/1512.00567 */
  labelSmoothing?: number
  /** Where the batch is spread over processes: both sums above are then of all their pixels. */
  total?: Total | undefined
}

/**
 * Cross-entropy: sum_i w_t(i) (-log p_i,t(i)) / sum_i w_t(i) over the pixels i that are not ignored, p = softmax(logits)
 * and t(i) the label of pixel i. Without `weight` that is the mean over those pixels. For other denominators see `Reduction`.
 * With `labelSmoothing` e, -w_t log p_t becomes (1 - e) (-w_t log p_t) + e / K sum_k (-w_k log p_k).
 * Ignored pixels have a gradient of exactly 0. When all are ignored (or weigh 0) the loss is 0, and so is its gradient.
 * @param logits [N, K, H, W] float, before softmax
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex`
 * @returns scalar [], or [N, H, W] with reduction "none"
 * @throws ShapeError when the sizes of logits, target and weight do not fit
 * @throws RangeError when target has a label outside 0..K-1
 * @see torch.nn.functional.cross_entropy, whose numbers these are, but that one gives NaN when all pixels are ignored
 */
export function crossEntropy(
  logits: Tensor,
  target: Tensor,
  { weight, ignoreIndex = 255, reduction = "mean", labelSmoothing = 0, total }: CrossEntropyOptions = {},
): Tensor {
  checkShapes("crossEntropy", logits, target, weight)
  // libtorch's kernel for the CPU looks at each label anyway; a wrong label on a GPU would end the process.
  if (logits.device !== "cpu" || labelSmoothing > 0) checkLabels("crossEntropy", logits, target, ignoreIndex)
  if (labelSmoothing > 0) {
    return tidy(() => {
      const options = { weight, ignoreIndex, labelSmoothing, reduction: 0 }
      return reduceLosses(aten.cross_entropy_loss(logits, target, options), target, {
        weight,
        ignoreIndex,
        reduction,
        total,
      })
    })
  }
  return tidy(() => {
    const logProbability = aten.log_softmax_int(logits, 1) // [N, K, H, W]
    const code = reduction === "none" ? 0 : 2 // libtorch's numbers of "none" and "sum"
    const [loss, totalWeight] = namingLabels("crossEntropy", logits, target, ignoreIndex, () =>
      call("aten::nll_loss2d_forward", logProbability, target, weight, code, ignoreIndex),
    ) as [Tensor, Tensor]
    if (reduction === "none" || reduction === "sum") return loss
    if (reduction === "mean-over-pixels") return quotient(loss, countOf(target, ignoreIndex), total)
    // The kernel's own mean is 0/0 when all pixels are ignored. Dividing here needs no look at the target: forward and
    // backward at [4, 21, 128, 128] on one core take 2.8 ms, with the kernel's mean 2.7 ms (medians of 200, interleaved).
    return quotient(loss, totalWeight, total)
  })
}

/**
 * Brings the losses of the pixels together, as crossEntropy does.
 * @param losses [N, H, W], weighted already; 0 where ignored
 */
export function reduceLosses(
  losses: Tensor,
  target: Tensor,
  {
    weight,
    ignoreIndex = 255,
    reduction = "mean",
    total,
  }: Pick<CrossEntropyOptions, "weight" | "ignoreIndex" | "reduction" | "total"> = {},
): Tensor {
  if (reduction === "none") return losses
  if (reduction === "sum") return losses.sum()
  if (reduction === "mean-over-pixels" || !weight) return quotient(losses.sum(), countOf(target, ignoreIndex), total)
  return quotient(losses.sum(), weightsOf(target, weight, ignoreIndex).sum(), total)
}

/** The losses of the pixels, [N, H, W], times the weights of their classes, if there are any. The labels must have been checked. */
export const weigh = (losses: Tensor, target: Tensor, weight: Tensor | undefined, ignoreIndex: number): Tensor =>
  weight ? losses.mul(weightsOf(target, weight, ignoreIndex)) : losses

/** The weight of each pixel's class, [N, H, W]; 0 where ignored. */
function weightsOf(target: Tensor, weight: Tensor, ignoreIndex: number): Tensor {
  return tidy(() => {
    const counted = target.ne(ignoreIndex)
    const weights = aten.index_select(weight, 0, target.mul(counted).flatten()).view(target.shape)
    return weights.mul(counted)
  })
}

/** How many pixels are not ignored. */
const countOf = (target: Tensor, ignoreIndex: number): Tensor => target.ne(ignoreIndex).sum()
