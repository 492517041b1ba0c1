// A run's curves over its steps: loss, mean IoU, learning rate, and the IoU of each class. For the report, and as curves.svg.
import type { EvaluationRecord, RunRecord, StepRecord } from "../train/run-folder.ts"
import { lineChart } from "./charts/line.ts"
import { standaloneSvg } from "./charts/standalone.ts"
import type { Html } from "./html.ts"

export type Point = readonly [x: number, y: number]

export const stepsOf = (records: readonly RunRecord[]): StepRecord[] =>
  records.filter((record): record is StepRecord => record.kind === "step")

export const evaluationsOf = (records: readonly RunRecord[]): EvaluationRecord[] =>
  records.filter((record): record is EvaluationRecord => record.kind === "evaluation")

/** The whole log as one SVG. */
export const curvesSvg = (records: readonly RunRecord[]): string =>
  standaloneSvg(runCharts(records), { title: "Training loss; Validation; Learning rate" })

/** Loss, mean IoU with and without background, learning rate; what has no points yet is left out. */
export function runCharts(records: readonly RunRecord[]): Html[] {
  const x = { name: "step" }
  const steps = stepsOf(records)
  const loss = steps.map(({ step, loss }) => [step, loss] as const)
  const evaluations = evaluationsOf(records)
  const charts = [
    lineChart({
      title: "Training loss",
      x,
      y: { name: "loss", most: lossLimit(loss) },
      series: [
        { name: "each step", points: thin(loss), faint: true, look: 0 },
        { name: "mean", points: thin(runningMean(loss)), look: 0 },
      ],
    }),
    lineChart({
      title: "Validation",
      x,
      y: { name: "mean IoU", unit: "per cent" },
      series: [
        { name: "all classes", points: scorePoints(evaluations, ({ scores }) => scores.meanIoU), marks: true },
        {
          name: "without background",
          points: scorePoints(evaluations, ({ scores }) => scores.meanIoUWithoutBackground),
          marks: true,
        },
      ],
    }),
    lineChart({
      title: "Learning rate",
      x,
      y: { name: "learning rate" },
      series: [{ name: "learning rate", points: thin(steps.map(({ step, learningRate }) => [step, learningRate])) }],
    }),
  ]
  return charts.filter(({ text }) => text !== "")
}

/** The IoU of each class over the evaluations, a small chart each on the same axes; classes that were never seen are left out. */
export function classCharts(records: readonly RunRecord[]): Html[] {
  const evaluations = evaluationsOf(records)
  const classes = evaluations.at(-1)?.scores.classes ?? []
  const most = Math.max(...evaluations.flatMap(({ scores }) => scores.classes.map(({ iou }) => 100 * (iou ?? 0))))
  return classes
    .map(({ name }, k) => {
      const points = scorePoints(evaluations, ({ scores }) => scores.classes[k]?.iou ?? null)
      const last = points.at(-1)?.[1] ?? 0
      return lineChart({
        title: name,
        x: { name: "step" },
        y: { name: "IoU", unit: "per cent", upTo: most },
        series: [{ name: last.toFixed(0), points, marks: true }],
        small: true,
      })
    })
    .filter(({ text }) => text !== "")
}

/** A score of each evaluation in per cent, where it is defined. */
export function scorePoints(
  evaluations: readonly EvaluationRecord[],
  of: (record: EvaluationRecord) => number | null,
  x: (record: EvaluationRecord) => number = ({ step }) => step,
): Point[] {
  return evaluations.flatMap((record) => {
    const value = of(record)
    return value === null ? [] : [[x(record), 100 * value] as const]
  })
}

/** Means of the last points, the nearest counting most: over about a twentieth of the run. */
export function runningMean(points: readonly Point[]): Point[] {
  const weight = Math.max(0.8, 1 - 20 / Math.max(1, points.length))
  let mean = 0
  let total = 0
  return points.map(([step, value]) => {
    mean = weight * mean + (1 - weight) * value
    total = weight * total + (1 - weight)
    return [step, mean / total]
  })
}

/** At most 1,000 points: more do not show, and the file stays small. */
export function thin(points: readonly Point[]): Point[] {
  const stride = Math.ceil(points.length / 1000)
  return points.filter((_, k) => k % stride === 0 || k === points.length - 1)
}

/** One step in a hundred may lie above: a single spike must not press the curve flat. */
function lossLimit(loss: readonly Point[]): number {
  const sorted = loss.map(([, value]) => value).sort((a, b) => a - b)
  const mean = runningMean(loss).reduce((most, [, value]) => Math.max(most, value), 0)
  return Math.max(mean, sorted[Math.floor(0.99 * (sorted.length - 1))] ?? 0)
}
