// Scores: what a confusion matrix says, as numbers between 0 and 1. Pure functions of the matrix.
// What is undefined is null, never 0 or 1: a class that is in neither truth nor prediction has no IoU. Counting it as 0
// would punish, as 1 reward, a class that the validation set happens not to have.
import { sum } from "../arrays.ts"
import { ConfusionMatrix } from "./confusion-matrix.ts"
import { mean, ratio } from "./means.ts"

export interface ClassScores {
  /** Truth and prediction's intersection / their union; null when the class is in neither. */
  readonly iou: number | null
  /** Share of the pixels predicted as this class that are of it; null when it was never predicted. */
  readonly precision: number | null
  /** Share of the pixels of this class that were found; null when the truth has none. */
  readonly recall: number | null
  /** F1, the same as Dice: harmonic mean of precision and recall, 2 IoU / (1 + IoU); null when the class is in neither. */
  readonly f1: number | null
  readonly truthPixels: number
  readonly predictedPixels: number
}

export interface Score {
  /** 0 to 1; null when nothing is left to score. */
  readonly value: number | null
  /** Indices of the classes that a mean leaves out because the score is undefined for them. */
  readonly leftOut: readonly number[]
}

export interface MetricOptions {
  /** Index of the class that counts as background; null when there is none. */
  background?: number | null
}

/** Scores of each class, by its index. */
export function classScores(matrix: ConfusionMatrix): ClassScores[] {
  const { classes } = matrix
  return Array.from({ length: classes }, (_, k) => {
    const hit = matrix.at(k, k)
    let [truthPixels, predictedPixels] = [0, 0]
    for (let other = 0; other < classes; other++) {
      truthPixels += matrix.at(k, other)
      predictedPixels += matrix.at(other, k)
    }
    return {
      iou: ratio(hit, truthPixels + predictedPixels - hit),
      precision: ratio(hit, predictedPixels),
      recall: ratio(hit, truthPixels),
      f1: ratio(2 * hit, truthPixels + predictedPixels),
      truthPixels,
      predictedPixels,
    }
  })
}

/** The IoU of one class, see ClassScores: without the work for all of them. */
export function classIoU(matrix: ConfusionMatrix, k: number): number | null {
  let union = -matrix.at(k, k)
  for (let other = 0; other < matrix.classes; other++) union += matrix.at(k, other) + matrix.at(other, k)
  return ratio(matrix.at(k, k), union)
}

/** Pixels that are right. */
export const hits = (matrix: ConfusionMatrix): number =>
  sum(Array.from({ length: matrix.classes }, (_, k) => matrix.at(k, k)))

/** Mean IoU over the classes that are in truth or prediction: the score of PASCAL VOC and Cityscapes. */
export const meanIoU = (matrix: ConfusionMatrix): Score => mean(classScores(matrix).map(({ iou }) => iou))

/**
 * Mean IoU over the same classes without background, which is easy and large. Confusing a class with background still
 * counts against that class. `leftOut` lists undefined classes only.
 */
export function meanIoUWithoutBackground(matrix: ConfusionMatrix, { background = 0 }: MetricOptions = {}): Score {
  return mean(classScores(matrix).map(({ iou }, k) => (k === background ? undefined : iou)))
}

/**
 * Mean IoU over the classes that the truth has. It does not say when other classes are predicted; their pixels still count
 * against the class they are taken from.
 */
export const meanIoUPresent = (matrix: ConfusionMatrix): Score =>
  mean(classScores(matrix).map(({ iou, truthPixels }) => (truthPixels > 0 ? iou : null)))

/** Sum of the IoUs, each by its class's share of the true pixels (Long et al. 2015): large classes, as background, decide. */
export function frequencyWeightedIoU(matrix: ConfusionMatrix): Score {
  const scores = classScores(matrix)
  const present = scores.filter(({ truthPixels }) => truthPixels > 0)
  const weighted = sum(present.map(({ iou, truthPixels }) => (iou as number) * truthPixels))
  return {
    value: ratio(weighted, sum(matrix.counts)),
    leftOut: scores.flatMap(({ truthPixels }, k) => (truthPixels > 0 ? [] : [k])),
  }
}

/** Mean F1 (Dice) over the classes that are in truth or prediction. Never below their mean IoU, and no better for it. */
export const meanF1 = (matrix: ConfusionMatrix): Score => mean(classScores(matrix).map(({ f1 }) => f1))

/** Mean over the classes in the truth of the share of their pixels that were found. */
export const meanAccuracy = (matrix: ConfusionMatrix): Score => mean(classScores(matrix).map(({ recall }) => recall))

/** Share of all counted pixels that are right. High as soon as background is: never show it alone. */
export function pixelAccuracy(matrix: ConfusionMatrix): Score {
  return { value: ratio(hits(matrix), sum(matrix.counts)), leftOut: [] }
}

/**
 * The matrix had every pixel been predicted as `background`: its scores are what a model must beat. (Any class will do:
 * where there is no background, take the largest.)
 */
export function backgroundOnly(matrix: ConfusionMatrix, background: number): ConfusionMatrix {
  const { classes } = matrix
  if (!Number.isInteger(background) || background < 0 || background >= classes) {
    throw new RangeError(`backgroundOnly: background is ${background}; expected a class, 0..${classes - 1}.`)
  }
  const trivial = new ConfusionMatrix(classes)
  for (const [k, { truthPixels }] of classScores(matrix).entries())
    trivial.counts[k * classes + background] = truthPixels
  return trivial
}

/** The class whose prediction everywhere is the one to beat: background, or the largest class where there is none. */
export function trivialClass(matrix: ConfusionMatrix, background: number | null): number {
  const sizes = classScores(matrix).map(({ truthPixels }) => truthPixels)
  return background ?? sizes.reduce((largest, size, k) => (size > (sizes[largest] as number) ? k : largest), 0)
}
