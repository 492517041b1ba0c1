// Cross-entropy for alpha mattes: the truth is how much of a pixel the object covers, so hair and glass can be right.
import { UserError } from "../errors.ts"
import { aten, ShapeError, type Tensor, tidy } from "../torch/index.ts"
import { quotient, type Total } from "./totals.ts"

export interface MattingOptions {
  /** Refused: what is a class's weight where a pixel belongs to both? */
  weight?: Tensor
  /** Value of pixels that count nowhere. */
  ignoreIndex?: number
  /** "none" gives the loss of each pixel, [N, H, W]. */
  reduction?: "mean" | "none"
  /** Where the batch is spread over processes. */
  total?: Total | undefined
}

/**
 * Cross-entropy with the soft target [1 - a, a]: the mean of -(1 - a) log p_0 - a log p_1 over the pixels that are not
 * ignored, p = softmax(logits). Ignored pixels have a gradient of exactly 0; when all are, so is the loss.
 * @param logits [N, 2, H, W] float: background and object
 * @param alpha [N, H, W] float from 0 to 1, or `ignoreIndex`
 * @returns scalar [], or [N, H, W] with reduction "none"
 * @throws ShapeError when the sizes do not fit, or there are not two classes
 * @throws UserError for class weights
 * @throws RangeError for an alpha outside 0 to 1
 * @see TensorFlow's DeepLab (research/deeplab/utils/train_utils.py), where float labels mean this
 */
export function mattingCrossEntropy(
  logits: Tensor,
  alpha: Tensor,
  { weight, ignoreIndex = 255, reduction = "mean", total }: MattingOptions = {},
): Tensor {
  if (weight) {
    throw new UserError(
      "mattingCrossEntropy: class weights are given, but a pixel of a matte belongs to both classes. Leave them out.",
    )
  }
  const [n, k, h, w, ...more] = logits.shape
  if (w === undefined || more.length > 0 || k !== 2) {
    throw new ShapeError(`mattingCrossEntropy: logits are ${logits.signature}; expected [N, 2, H, W].`)
  }
  if (String(alpha.shape) !== String([n, h, w]) || !alpha.dtype.startsWith("float")) {
    throw new ShapeError(
      `mattingCrossEntropy: alpha is ${alpha.signature} but logits are ${logits.signature}; expected floats [${n}, ${h}, ${w}].`,
    )
  }
  return tidy(() => {
    const counted = alpha.ne(ignoreIndex)
    const share = alpha.mul(counted) // [N, H, W], 0 where ignored
    for (const extreme of [share.min().item(), share.max().item()]) {
      if (extreme >= 0 && extreme <= 1) continue
      throw new RangeError(
        `mattingCrossEntropy: alpha has ${extreme}; expected 0 to 1, or ${ignoreIndex} (ignored). Is it divided by its largest value?`,
      )
    }
    const logProbability = aten.log_softmax_int(logits, 1)
    const [object, ground] = [logProbability.select(1, 1), logProbability.select(1, 0)]
    const losses = share.mul(object).add(aten.rsub_Scalar(share, 1).mul(ground)).neg().mul(counted)
    return reduction === "none" ? losses : quotient(losses.sum(), counted.sum(), total)
  })
}
