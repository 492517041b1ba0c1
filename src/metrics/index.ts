// What the metrics give to other layers. The metrics by name, and how to add one: registry.ts.
export * from "./bootstrap.ts"
export * from "./boundary.ts"
export { type Calibration, CalibrationCounter, type ReliabilityBin } from "./calibration.ts"
export * from "./ceiling.ts"
export { type Cell, ConfusionMatrix, type ConfusionMatrixJson, type Labels } from "./confusion-matrix.ts"
export * from "./evaluation.ts"
export * from "./honesty.ts"
export * from "./image-scores.ts"
export { allScores, type Metric, type MetricName, metricNames, metrics } from "./registry.ts"
export {
  backgroundOnly,
  type ClassScores,
  classScores,
  frequencyWeightedIoU,
  type MetricOptions,
  meanAccuracy,
  meanF1,
  meanIoU,
  meanIoUPresent,
  meanIoUWithoutBackground,
  pixelAccuracy,
  type Score,
  trivialClass,
} from "./scores.ts"
export * from "./summary.ts"
