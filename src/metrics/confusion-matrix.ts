// Confusion matrix: how many pixels of each true class were predicted as each class. Every score comes from it, so that
// scores are of the whole set: a mean of per-image scores would count a class anew for each image it is in.
import { UserError } from "../errors.ts"
import { ShapeError, Tensor, tidy } from "../torch/index.ts"

/** Labels: an integer tensor of any shape, or a typed array. */
export type Labels = Tensor | Uint8Array | Uint8ClampedArray | Int32Array

/** What toJSON() gives: `counts[truth][prediction]` in pixels. */
export interface ConfusionMatrixJson {
  counts: number[][]
}

export class ConfusionMatrix {
  readonly classes: number
  /** [classes, classes] row by row, in pixels: rows are the truth, columns the prediction. Exact up to 2^53 pixels. */
  readonly counts: Float64Array

  constructor(classes: number) {
    if (!Number.isInteger(classes) || classes < 1) {
      throw new RangeError(`ConfusionMatrix: classes is ${classes}; expected a whole number above 0.`)
    }
    this.classes = classes
    this.counts = new Float64Array(classes * classes)
  }

  /** Pixels of class `truth` that were predicted as `prediction`. */
  at(truth: number, prediction: number): number {
    return this.counts[truth * this.classes + prediction] as number
  }

  /**
   * Counts pixels. Nothing is counted when anything is wrong.
   * @param prediction 0..K-1, at ignored pixels too
   * @param target 0..K-1 or `ignoreIndex`, as many as there are predictions
   * @throws ShapeError when the sizes differ; RangeError for a label outside 0..K-1
   */
  add(prediction: Labels, target: Labels, { ignoreIndex = 255 } = {}): this {
    const { classes } = this
    checkSizes(prediction, target)
    const predicted = read(prediction)
    const truth = read(target)
    const counted = new Float64Array(this.counts.length)
    // A plain loop: 2 ms for 8 masks of 256 x 256, which UNet needs 800 ms to predict on two cores. bincount takes 1.4 ms,
    // and cannot say which pixel is wrong.
    for (let i = 0; i < truth.length; i++) {
      const t = truth[i] as number
      const p = predicted[i] as number
      if (!(p >= 0 && p < classes)) throw new RangeError(outside("prediction", i, p, `0..${classes - 1}`))
      if (t === ignoreIndex) continue
      if (!(t >= 0 && t < classes)) {
        throw new RangeError(outside("target", i, t, `0..${classes - 1} or ${ignoreIndex} (ignored)`))
      }
      const cell = t * classes + p
      counted[cell] = (counted[cell] as number) + 1
    }
    return this.#addCounts(counted)
  }

  /** Adds another matrix's pixels, as of another worker. */
  merge(other: ConfusionMatrix): this {
    if (other.classes !== this.classes) {
      throw new ShapeError(`ConfusionMatrix: cannot merge ${other.classes} classes into ${this.classes}.`)
    }
    return this.#addCounts(other.counts)
  }

  #addCounts(counts: Float64Array): this {
    for (const [i, count] of counts.entries()) this.counts[i] = (this.counts[i] as number) + count
    return this
  }

  toJSON(): ConfusionMatrixJson {
    const { classes } = this
    return {
      counts: Array.from({ length: classes }, (_, t) => [...this.counts.subarray(t * classes, (t + 1) * classes)]),
    }
  }

  /** @throws UserError when `json` is not what toJSON() gives */
  static fromJSON(json: ConfusionMatrixJson): ConfusionMatrix {
    const rows: unknown = json?.counts
    const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0
    const isRow = (row: unknown, _: number, all: unknown[]) =>
      Array.isArray(row) && row.length === all.length && row.every(isCount)
    if (!Array.isArray(rows) || rows.length === 0 || !rows.every(isRow)) {
      throw new UserError("A confusion matrix is { counts: [[...], ...] }: as many rows as columns of whole numbers.")
    }
    const matrix = new ConfusionMatrix(rows.length)
    matrix.counts.set(rows.flat() as number[])
    return matrix
  }
}

function checkSizes(prediction: Labels, target: Labels): void {
  const shape = (labels: Labels) => (labels instanceof Tensor ? labels.shape : [labels.length])
  const [p, t] = [shape(prediction), shape(target)]
  const both = prediction instanceof Tensor && target instanceof Tensor
  const size = (sizes: number[]) => sizes.reduce((product, length) => product * length, 1)
  if (both ? String(p) !== String(t) : size(p) !== size(t)) {
    throw new ShapeError(`ConfusionMatrix: prediction is [${p.join(", ")}] but target is [${t.join(", ")}].`)
  }
}

/** All elements as numbers. A loop over int64's BigInts takes 4 times as long as one over int32. */
function read(labels: Labels): Exclude<Labels, Tensor> {
  if (!(labels instanceof Tensor)) return labels
  if (!/^u?int/.test(labels.dtype)) {
    throw new ShapeError(
      `ConfusionMatrix: labels are ${labels.signature}; expected integers. Use logits.argmax({ dim: 1 }).`,
    )
  }
  return tidy(() => labels.to({ dtype: "int32" }).data()) as Int32Array
}

const outside = (what: string, at: number, value: number, expected: string): string =>
  `ConfusionMatrix: ${what} has label ${value} at pixel ${at}; expected ${expected}.`
