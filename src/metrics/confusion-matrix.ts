// Confusion matrix: how many pixels of each true class were predicted as each class. Every score comes from it, so that
// scores are of the whole set: a mean of per-image scores would count a class anew for each image it is in.
import { UserError } from "../errors.ts"
import { ShapeError } from "../torch/errors.ts" // not index.ts: masks are counted in worker threads too, which need no libtorch
import type { Tensor } from "../torch/index.ts"

/** Labels: an integer tensor of any shape, or a typed array. */
export type Labels = Tensor | Uint8Array | Uint8ClampedArray | Int32Array

/** Pixels of one truth and prediction. */
export type Cell = readonly [truth: number, prediction: number, pixels: number]

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
   * @param prediction 0..K-1; at ignored pixels `ignoreIndex` will do too, as when a mask is scored against itself
   * @param target 0..K-1 or `ignoreIndex`, as many as there are predictions
   * @throws ShapeError when the sizes differ; RangeError for a label outside 0..K-1
   */
  add(prediction: Labels, target: Labels, { ignoreIndex = 255 } = {}): this {
    checkSizes(prediction, target)
    const [predicted, truth] = [read(prediction), read(target)]
    return areBytes(predicted) && areBytes(truth)
      ? this.#addBytes(predicted, truth, ignoreIndex)
      : this.#addNumbers(predicted, truth, ignoreIndex)
  }

  /**
   * Counts pairs of bytes first, whatever they are, and looks afterwards whether all are classes: nothing is asked of a pixel.
   * See `countPairs` for figures.
   */
  #addBytes(predicted: Uint8Array, truth: Uint8Array, ignoreIndex: number): this {
    const classes = Math.min(this.classes, 256)
    countPairs(predicted, truth)
    const takeOut = (t: number, p: number): number => {
      const count = pairs[(t << 8) | p] as number
      pairs[(t << 8) | p] = 0
      return count
    }
    const counted = new Float64Array(this.counts.length)
    let seen = 0
    if (ignoreIndex >= 0 && ignoreIndex < 256) {
      for (let p = 0; p < classes; p++) seen += takeOut(ignoreIndex, p)
      seen += takeOut(ignoreIndex, ignoreIndex)
    }
    for (let t = 0; t < classes; t++) {
      for (let p = 0; p < classes; p++) {
        const count = takeOut(t, p) // 0 in the row of ignoreIndex: it has been taken out
        counted[t * this.classes + p] = count
        seen += count
      }
    }
    if (seen !== truth.length) {
      pairs.fill(0)
      checkLabels(predicted, truth, { classes, ignoreIndex }) // throws, and says where
    }
    return this.#addCounts(counted)
  }

  #addNumbers(predicted: Numbers, truth: Numbers, ignoreIndex: number): this {
    const { classes } = this
    checkLabels(predicted, truth, { classes, ignoreIndex })
    const counted = new Float64Array(this.counts.length)
    for (let i = 0; i < truth.length; i++) {
      const t = truth[i] as number
      if (t !== ignoreIndex) counted[t * classes + (predicted[i] as number)]! += 1
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

  /** The cells that are not 0, row by row. */
  cells(): Cell[] {
    const { classes } = this
    const cells: Cell[] = []
    for (const [i, count] of this.counts.entries()) {
      if (count > 0) cells.push([Math.floor(i / classes), i % classes, count])
    }
    return cells
  }

  /** Adds what `cells()` of a matrix of as many classes gave. */
  addCells(cells: readonly Cell[]): this {
    for (const [t, p, count] of cells) {
      if (!(t >= 0 && t < this.classes && p >= 0 && p < this.classes)) {
        throw new RangeError(`ConfusionMatrix: there is no cell [${t}, ${p}] in ${this.classes} classes.`)
      }
      this.counts[t * this.classes + p]! += count
    }
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

type Numbers = Exclude<Labels, Tensor>

const isTensor = (labels: Labels): labels is Tensor => !ArrayBuffer.isView(labels)
const areBytes = (labels: Numbers): labels is Uint8Array => labels.BYTES_PER_ELEMENT === 1

function checkSizes(prediction: Labels, target: Labels): void {
  const shape = (labels: Labels) => (isTensor(labels) ? labels.shape : [labels.length])
  const [p, t] = [shape(prediction), shape(target)]
  const both = isTensor(prediction) && isTensor(target)
  const size = (sizes: number[]) => sizes.reduce((product, length) => product * length, 1)
  if (both ? String(p) !== String(t) : size(p) !== size(t)) {
    throw new ShapeError(`ConfusionMatrix: prediction is [${p.join(", ")}] but target is [${t.join(", ")}].`)
  }
}

/** All elements as numbers. A loop over int64's BigInts takes 4 times as long as one over int32. */
function read(labels: Labels): Numbers {
  if (!isTensor(labels)) return labels
  if (!/^u?int/.test(labels.dtype)) {
    throw new ShapeError(
      `ConfusionMatrix: labels are ${labels.signature}; expected integers. Use logits.argmax({ dim: 1 }).`,
    )
  }
  if (labels.dtype === "uint8") return labels.data() as Uint8Array
  using numbers = labels.to({ dtype: "int32" })
  return numbers.data() as Int32Array
}

/** [256, 256] pixels of each truth and prediction: all 0 but between `countPairs` and taking them out. */
const pairs = new Uint32Array(256 * 256)

/**
 * Counts pairs of bytes into `pairs`, four pixels at a time: where they are as the four before, nothing is counted yet but
 * one more of these. Masks are mostly that. A VOC mask of 500 x 375 against itself moved by 6 pixels takes 0.1 ms of one core of
 * an AMD EPYC, against noise 0.2 ms (195 masks, processor time); pixel by pixel, each one checked, it was 0.8 ms.
 */
function countPairs(predicted: Uint8Array, truth: Uint8Array): void {
  const fours = truth.length >> 2
  const [ps, ts] = [inFours(predicted, fours), inFours(truth, fours)]
  let [p, t, run] = [0, 0, 0]
  for (let i = 0; i < fours; i++) {
    if (ps[i] === p && ts[i] === t) {
      run++
      continue
    }
    countFour(p, t, run)
    p = ps[i] as number
    t = ts[i] as number
    run = 1
  }
  countFour(p, t, run)
  for (let i = 4 * fours; i < truth.length; i++) pairs[((truth[i] as number) << 8) | (predicted[i] as number)]! += 1
}

function countFour(p: number, t: number, times: number): void {
  pairs[((t & 255) << 8) | (p & 255)]! += times
  pairs[(t & 0xff00) | ((p >> 8) & 255)]! += times
  pairs[((t >> 8) & 0xff00) | ((p >> 16) & 255)]! += times
  pairs[((t >> 16) & 0xff00) | (p >>> 24)]! += times
}

/** The same memory as 32-bit numbers, which must begin at a multiple of 4 bytes: else a copy. */
function inFours(bytes: Uint8Array, fours: number): Int32Array {
  const { buffer, byteOffset } = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Int32Array(buffer, byteOffset, fours)
}

/** @throws RangeError for the first label outside the classes */
function checkLabels(
  predicted: Numbers,
  truth: Numbers,
  { classes, ignoreIndex }: { readonly classes: number; readonly ignoreIndex: number },
): void {
  for (let i = 0; i < truth.length; i++) {
    const t = truth[i] as number
    const p = predicted[i] as number
    if (t === ignoreIndex && p === ignoreIndex) continue
    if (!(p >= 0 && p < classes)) throw new RangeError(outside("prediction", i, p, `0..${classes - 1}`))
    if (t !== ignoreIndex && !(t >= 0 && t < classes)) {
      throw new RangeError(outside("target", i, t, `0..${classes - 1} or ${ignoreIndex} (ignored)`))
    }
  }
}

const outside = (what: string, at: number, value: number, expected: string): string =>
  `ConfusionMatrix: ${what} has label ${value} at pixel ${at}; expected ${expected}.`
