// What the losses of regions and of distances begin and end with: probabilities beside the truth or their sums, and a mean over classes.
import { interpolate } from "../nn/index.ts"
import { arange, aten, levers, type Tensor, upsampledOverlap } from "../torch/index.ts"
import { checkLabels, checkShapes, namingLabels } from "./check.ts"
import type { LossOptions } from "./index.ts"
import { quotient, type Total } from "./totals.ts"

export interface Regions {
  /** [N, K, H, W], softmax of the logits; 0 where the pixel is ignored, which makes its gradient exactly 0. */
  readonly probability: Tensor
  /** [N, K, H, W] bool: where the pixel has the class; nowhere where it is ignored. */
  readonly truth: Tensor
  /** [N, 1, H, W] bool: where the pixel is not ignored. */
  readonly counted: Tensor
}

/** What the losses that are made of sums over regions can be told. */
export interface OverlapOptions extends LossOptions {
  /** How logits are enlarged that are smaller than the target: corner pixels on corner pixels, or edges on edges. */
  alignCorners?: boolean | undefined
}

/** Sums over batch and pixels together, of those that are not ignored. All are [K]. */
export interface Overlap {
  /** sum(p_k g_k): true positives, softly. */
  readonly both: Tensor
  /** sum(p_k) */
  readonly predicted: Tensor
  /** sum(g_k), the number of pixels that have the class; 1 where none has, so that what divides by it stays finite. */
  readonly actual: Tensor
  /** Whether any pixel has the class. */
  readonly present: Tensor
}

/**
 * Checks what a loss was given and takes it apart. Belongs into the loss's tidy().
 * @param loss its name, for errors
 * @throws ShapeError when the sizes of logits, target and weight do not fit
 * @throws RangeError when target has a label outside 0..K-1
 */
export function regionsOf(
  loss: string,
  logits: Tensor,
  target: Tensor,
  { weight, ignoreIndex }: { weight: Tensor | undefined; ignoreIndex: number },
): Regions {
  checkShapes(loss, logits, target, weight)
  checkLabels(loss, logits, target, ignoreIndex)
  const labels = target.unsqueeze(1) // [N, 1, H, W]
  const counted = labels.ne(ignoreIndex)
  const classes = arange(logits.size(1), { dtype: "int64", device: logits.device }).view([1, -1, 1, 1])
  return {
    probability: aten.softmax_int(logits, 1).mul(counted),
    truth: aten.logical_and(labels.eq(classes), counted), // a class may be the ignored label
    counted,
  }
}

/**
 * Checks what a loss was given and sums it up, without keeping the probability of each pixel. Belongs into the loss's tidy().
 * @param logits [N, K, h, w], before softmax; enlarged to the size of the labels (bilinear)
 * @throws as regionsOf
 */
export function overlapOf(
  loss: string,
  logits: Tensor,
  target: Tensor,
  { weight, ignoreIndex = 255, alignCorners = false, total }: OverlapOptions,
): Overlap {
  checkShapes(loss, logits, target, weight, { isAnySize: true })
  if (!levers.upsampleLoss) {
    const large = interpolate(logits, [target.size(1), target.size(2)], { alignCorners })
    return overlapFrom(sumsOf(regionsOf(loss, large, target, { weight, ignoreIndex })), total)
  }
  const looksAtLabels = logits.device === "cpu" && logits.dtype !== "float64" // as the operator of our own does
  if (!looksAtLabels) checkLabels(loss, logits, target, ignoreIndex)
  const sums = namingLabels(loss, logits, target, ignoreIndex, () =>
    upsampledOverlap(logits, target, { ignoreIndex, alignCorners }),
  )
  return overlapFrom(sums, total)
}

/** [3, K], as upsampledOverlap() gives it. */
function sumsOf({ probability, truth }: Regions): Tensor {
  const each = [probability.mul(truth), probability, truth.to({ dtype: probability.dtype })]
  return aten.stack(each.map((values) => values.sum({ dim: [0, 2, 3] })))
}

/** @param own [3, K] of this process */
function overlapFrom(own: Tensor, total: Total | undefined): Overlap {
  const sums = total ? total(own) : own
  const actual = sums.at(2)
  return { both: sums.at(0), predicted: sums.at(1), actual: actual.clamp({ min: 1 }), present: actual.gt(0) }
}

/**
 * sum(w v) / sum(w) over the entries that are present; 0 when none is. What is not present must be finite.
 * @param values [K], or [N, K] where each image counts by itself
 * @param present bool, of the same shape
 * @param weight [K]; each 1 when left out
 * @param total where other processes have entries too; not where all have the same
 */
export function meanOfPresent(values: Tensor, present: Tensor, weight: Tensor | undefined, total?: Total): Tensor {
  const share = weight ? present.mul(weight) : present
  return quotient(values.mul(share).sum(), share.sum(), total)
}

/** Of each image and class the mean over the pixels that are not ignored; 0 where all are. [N, K, H, W] to [N, K] */
export function meanOfPixels(values: Tensor, counted: Tensor): Tensor {
  return values.sum({ dim: [2, 3] }).div(counted.sum({ dim: [2, 3] }).clamp({ min: 1 }))
}

/** Whether an image has pixels of a class: [N, K, H, W] bool to [N, K] bool. */
export const presentIn = (truth: Tensor): Tensor => aten.any_dim(truth.flatten({ startDim: 2 }), 2)
