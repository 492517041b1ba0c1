// Scores averaged over images: each image is scored by itself, so that small objects in it weigh as much as large ones
// elsewhere. They are not comparable with the scores of a whole set (scores.ts), which is what papers on VOC report.
// Wang et al. 2023, Revisiting Evaluation Metrics for Semantic Segmentation, https://arxiv.org/abs/2310.19252
import type { ConfusionMatrix } from "./confusion-matrix.ts"
import { mean } from "./means.ts"
import {
  classScores,
  type MetricOptions,
  meanF1,
  meanIoU,
  meanIoUWithoutBackground,
  pixelAccuracy,
  type Score,
} from "./scores.ts"

/** A score of a set's images; `leftOut` lists classes. */
export interface ImageScore extends Score {
  /** Images, by their place, for which the score is undefined: all void, or without the classes asked for. */
  readonly imagesLeftOut: readonly number[]
}

/** One number of the confusion matrices of a set's images, larger is better. */
export type ImageMetric = (matrices: readonly ConfusionMatrix[], options?: MetricOptions) => ImageScore

/** Mean over images of the mean IoU over the classes in that image's truth or prediction (Wang et al.: mIoU^I). */
export const imageMeanIoU: ImageMetric = (matrices) => overImages(matrices, meanIoU)

/** The same without background; an image in whose truth and prediction there is nothing else is left out. */
export const imageMeanIoUWithoutBackground: ImageMetric = (matrices, options) =>
  overImages(matrices, (matrix) => meanIoUWithoutBackground(matrix, options))

/** Mean over images of the mean F1 (Dice) over the classes in that image's truth or prediction. */
export const imageMeanF1: ImageMetric = (matrices) => overImages(matrices, meanF1)

/** Mean over images of the share of right pixels. */
export const imagePixelAccuracy: ImageMetric = (matrices) => overImages(matrices, pixelAccuracy)

/** Mean over classes of the mean of their IoU over the images that have them in truth or prediction (Wang et al.: mIoU^C). */
export const classImageMeanIoU: ImageMetric = (matrices) => {
  const images = matrices.map((matrix) => classScores(matrix).map(({ iou }) => iou)) // [images][K]
  const classes = images[0]?.map((_, k) => mean(images.map((ious) => ious[k])).value) ?? []
  const imagesLeftOut = images.flatMap((ious, i) => (ious.every((iou) => iou === null) ? [i] : []))
  return { ...mean(classes), imagesLeftOut }
}

/** The metrics of a set's images by name. To add one: write a function as above and add one line here. */
export const imageMetrics = {
  imageMeanIoU,
  imageMeanIoUWithoutBackground,
  imageMeanF1,
  imagePixelAccuracy,
  classImageMeanIoU,
} satisfies Record<string, ImageMetric>

export type ImageMetricName = keyof typeof imageMetrics
export const imageMetricNames = Object.keys(imageMetrics) as ImageMetricName[]

function overImages(matrices: readonly ConfusionMatrix[], metric: (matrix: ConfusionMatrix) => Score): ImageScore {
  const { value, leftOut } = mean(matrices.map((matrix) => metric(matrix).value))
  return { value, leftOut: [], imagesLeftOut: leftOut }
}
