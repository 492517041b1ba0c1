// The metrics by name. To add one: write a function of a confusion matrix and add one line here.
import type { ConfusionMatrix } from "./confusion-matrix.ts"
import {
  type MetricOptions,
  meanAccuracy,
  meanIoU,
  meanIoUWithoutBackground,
  pixelAccuracy,
  type Score,
} from "./scores.ts"

/** One number of a confusion matrix, larger is better. */
export type Metric = (matrix: ConfusionMatrix, options?: MetricOptions) => Score

export const metrics = { meanIoU, meanIoUWithoutBackground, meanAccuracy, pixelAccuracy } satisfies Record<
  string,
  Metric
>

export type MetricName = keyof typeof metrics
export const metricNames = Object.keys(metrics) as MetricName[]

/** All metrics of a matrix, by name. */
export function allScores(matrix: ConfusionMatrix, options: MetricOptions = {}): Record<MetricName, Score> {
  const entries = metricNames.map((name) => [name, (metrics[name] as Metric)(matrix, options)])
  return Object.fromEntries(entries) as Record<MetricName, Score>
}

export { ConfusionMatrix, type ConfusionMatrixJson, type Labels } from "./confusion-matrix.ts"
export * from "./scores.ts"
