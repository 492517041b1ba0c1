// The metrics by name. To add one: write a function of a confusion matrix and add one line here. Those that need the matrix of
// each image are in image-scores.ts.
import type { ConfusionMatrix } from "./confusion-matrix.ts"
import {
  frequencyWeightedIoU,
  type MetricOptions,
  meanAccuracy,
  meanF1,
  meanIoU,
  meanIoUPresent,
  meanIoUWithoutBackground,
  pixelAccuracy,
  type Score,
} from "./scores.ts"

/** One number of a confusion matrix, larger is better. */
export type Metric = (matrix: ConfusionMatrix, options?: MetricOptions) => Score

export const metrics = {
  meanIoU,
  meanIoUWithoutBackground,
  meanIoUPresent,
  meanF1,
  frequencyWeightedIoU,
  meanAccuracy,
  pixelAccuracy,
} satisfies Record<string, Metric>

export type MetricName = keyof typeof metrics
export const metricNames = Object.keys(metrics) as MetricName[]

/** All metrics of a matrix, by name. */
export function allScores(matrix: ConfusionMatrix, options: MetricOptions = {}): Record<MetricName, Score> {
  const entries = metricNames.map((name) => [name, (metrics[name] as Metric)(matrix, options)])
  return Object.fromEntries(entries) as Record<MetricName, Score>
}
