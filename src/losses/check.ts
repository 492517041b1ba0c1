// What every loss checks at its border.
import { isCapturing, OpError, ShapeError, type Tensor, tidy } from "../torch/index.ts"

/**
 * @param isAnySize whether height and width of the two may differ
 * @throws ShapeError when the sizes of logits, target and weight do not fit, or target is not int64
 */
export function checkShapes(
  loss: string,
  logits: Tensor,
  target: Tensor,
  weight: Tensor | undefined,
  { isAnySize = false } = {},
): void {
  const [n, , ...size] = logits.shape
  const [h, w, ...more] = isAnySize ? [...target.shape.slice(1, 3), ...size.slice(2)] : size
  if (w === undefined || more.length > 0) {
    throw new ShapeError(`${loss}: logits are ${logits.signature}; expected [N, K, H, W].`)
  }
  if (String(target.shape) !== String([n, h, w])) {
    throw new ShapeError(
      `${loss}: target is ${target.signature} but logits are ${logits.signature}; expected target [${n}, ${h}, ${w}].`,
    )
  }
  if (target.dtype !== "int64") {
    throw new ShapeError(
      `${loss}: target is ${target.signature}; expected int64 labels. Use target.to({ dtype: "int64" }).`,
    )
  }
  checkWeight(loss, logits, weight)
}

/** @throws ShapeError when there is not one weight per class */
export function checkWeight(loss: string, logits: Tensor, weight: Tensor | undefined): void {
  const k = logits.size(1)
  if (weight && String(weight.shape) !== String([k])) {
    throw new ShapeError(
      `${loss}: weight is ${weight.signature} but logits are ${logits.signature}; expected one weight per class, [${k}].`,
    )
  }
}

/**
 * Not while a CUDA graph is captured, whose replays could not look either: the steps before it did, and masks are checked as they
 * are read.
 * @throws RangeError naming a label that is neither a class nor ignored
 */
export function checkLabels(loss: string, logits: Tensor, target: Tensor, ignoreIndex: number, cause?: Error): void {
  if (isCapturing()) return
  const classes = logits.size(1)
  const extremes = tidy(() => {
    const counted = target.mul(target.ne(ignoreIndex)) // ignored pixels become 0, which is a class
    return [counted.min().item(), counted.max().item()]
  })
  for (const label of extremes) {
    if (label >= 0 && label < classes) continue
    throw new RangeError(
      `${loss}: target has label ${label}; expected 0..${classes - 1} or ${ignoreIndex} (ignored). Does the label map have ${classes} classes?`,
      { cause },
    )
  }
}

/**
 * What `compute` gives, by an operator that looks at each label itself: only when it refuses one is that looked for.
 * @throws RangeError as checkLabels
 */
export function namingLabels<T>(
  loss: string,
  logits: Tensor,
  target: Tensor,
  ignoreIndex: number,
  compute: () => T,
): T {
  try {
    return compute()
  } catch (error) {
    if (error instanceof OpError) checkLabels(loss, logits, target, ignoreIndex, error)
    throw error
  }
}
