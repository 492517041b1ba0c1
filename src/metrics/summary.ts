// What a confusion matrix or an evaluation says, in numbers with names: plain data for records, tables and reports.
import { sum } from "../arrays.ts"
import { type BootstrapOptions, bootstrapIntervals, type Interval, type Statistic } from "./bootstrap.ts"
import type { BoundaryCounts } from "./boundary.ts"
import type { Enlargement } from "./ceiling.ts"
import { ConfusionMatrix } from "./confusion-matrix.ts"
import { type Evaluation, matrixOf, matrixOfImage } from "./evaluation.ts"
import { mean, ratio } from "./means.ts"
import { type Metric, type MetricName, metricNames, metrics } from "./registry.ts"
import { backgroundOnly, type ClassScores, classIoU, classScores, meanIoU, trivialClass } from "./scores.ts"

/** Each 0 to 1; null where undefined. */
type AllMeans = Readonly<Record<MetricName, number | null>>

/** The means as records keep them: those of older runs have not all of them. `meanIoUWithoutBackground` is null without one. */
export type Means = Partial<AllMeans> & Pick<AllMeans, "meanIoU" | "meanIoUWithoutBackground" | "pixelAccuracy">

/** A confusion matrix in numbers. Plain data, as it stands in a run's files. */
export interface Scores extends Means {
  readonly meanAccuracy: number | null
  /** Of each class; F1 is not in the records of older runs. */
  readonly classes: readonly (Omit<ClassScores, "f1"> & { readonly f1?: number | null; readonly name: string })[]
  /** Names of classes in neither truth nor prediction: no mean counts them. */
  readonly leftOut: readonly string[]
  /** What predicting one class everywhere would score: background, or the largest class where there is none. */
  readonly trivial: Means & { readonly name: string }
}

/** What a label map says about its classes. */
export interface ClassNames {
  readonly classes: readonly { readonly name: string }[]
  readonly background?: number | undefined
}

/** All scores of a matrix beside those of the trivial prediction, which no model may be compared without. */
export function summarize(matrix: ConfusionMatrix, { classes, background }: ClassNames): Scores {
  const trivial = trivialClass(matrix, background ?? null)
  const name = (k: number) => classes[k]?.name ?? String(k)
  return {
    ...meansOf(matrix, background ?? null),
    classes: classScores(matrix).map((scores, k) => ({ name: name(k), ...scores })),
    leftOut: meanIoU(matrix).leftOut.map(name),
    trivial: { name: name(trivial), ...meansOf(backgroundOnly(matrix, trivial), background ?? null) },
  }
}

/** `summarize` of the whole evaluated set. */
export function scoresOf(evaluation: Evaluation): Scores {
  const { classes, background } = evaluation
  return summarize(matrixOf(evaluation), {
    classes: classes.map((name) => ({ name })),
    background: background ?? undefined,
  })
}

/** The means that are defined for these classes, and known: older records have not all of them. */
export const shownMetrics = (scores: Scores): MetricName[] =>
  metricNames.filter(
    (name) => scores[name] !== undefined && (name !== "meanIoUWithoutBackground" || scores[name] !== null),
  )

/** A metric of the registry, null where it wants a background and there is none. */
function statisticOf(name: MetricName, background: number | null): Statistic {
  if (name === "meanIoUWithoutBackground" && background === null) return () => ({ value: null })
  return (matrix) => (metrics[name] as Metric)(matrix, { background })
}

function meansOf(matrix: ConfusionMatrix, background: number | null): AllMeans {
  return Object.fromEntries(metricNames.map((name) => [name, statisticOf(name, background)(matrix).value])) as AllMeans
}

// --- intervals ------------------------------------------------------------------------------------------------------------

export interface Intervals {
  readonly means: Readonly<Record<MetricName, Interval>>
  /** Of each class's IoU. */
  readonly classes: readonly Interval[]
}

/** 95 % bootstrap intervals over the images (bootstrap.ts) of the means and of each class's IoU. */
export function intervalsOf(evaluation: Evaluation, options: BootstrapOptions = {}): Intervals {
  const { classes, images, background } = evaluation
  const matrices = images.map((image) => matrixOfImage(image, classes.length))
  const ofClasses = Object.fromEntries(
    classes.map((_, k): [number, Statistic] => [k, (matrix) => ({ value: classIoU(matrix, k) })]),
  )
  const ofMeans = Object.fromEntries(metricNames.map((name) => [name, statisticOf(name, background)]))
  const intervals = bootstrapIntervals<string>(matrices, { ...ofMeans, ...ofClasses }, options)
  return {
    means: Object.fromEntries(metricNames.map((name) => [name, intervals[name]])) as Intervals["means"],
    classes: classes.map((_, k) => intervals[k] as Interval),
  }
}

// --- boundaries -----------------------------------------------------------------------------------------------------------

/** How well the contours of one class were drawn, over the whole set. */
export interface BoundaryScores {
  readonly name: string
  /** Boundary IoU over the bands of all images together, 0 to 1; null where the class is in neither truth nor prediction. */
  readonly iou: number | null
  /** Boundary F1: mean over the images whose truth or prediction has the class, 0 to 1; null where none has. */
  readonly f1: number | null
  /** Mean over the images whose truth and prediction both have the class, in pixels; null where none has. */
  readonly hausdorff95: number | null
  /** Images whose truth or prediction has the class. */
  readonly images: number
  /** Those of them that the Hausdorff distance leaves out: the class was missed there altogether, or is not in the truth. */
  readonly withoutDistance: number
}

/** Of each class, in their order; null where boundaries were not measured. */
export function boundaryScores({ classes, images }: Evaluation): readonly BoundaryScores[] | null {
  if (images.some(({ boundary }) => boundary === null)) return null
  return classes.map((name, k) => {
    const having = images.flatMap((image) => {
      const counts = image.boundary?.find((entry) => entry.class === k)
      return counts ? [{ counts, distance: image.hausdorff95[k] ?? null }] : []
    })
    const distances = having.flatMap(({ distance }) => (distance === null ? [] : [distance]))
    return {
      name,
      iou: ratio(sum(having.map(({ counts }) => counts.bandBoth)), sum(having.map(({ counts }) => counts.bandEither))),
      f1: mean(having.map(({ counts }) => boundaryF1(counts))).value,
      hausdorff95: mean(distances).value,
      images: having.length,
      withoutDistance: having.length - distances.length,
    }
  })
}

/** Means over the classes for which each is defined; null where there are none. */
export function boundaryMeans(
  scores: readonly BoundaryScores[],
): Readonly<Record<"iou" | "f1" | "hausdorff95", number | null>> {
  const over = (name: "iou" | "f1" | "hausdorff95") => mean(scores.map((entry) => entry[name])).value
  return { iou: over("iou"), f1: over("f1"), hausdorff95: over("hausdorff95") }
}

/** Boundary F1 of a class in one image, 0 to 1: 0 where only truth or prediction has it. */
export function boundaryF1({ predicted, predictedNear, truth, truthNear }: BoundaryCounts): number {
  if (predicted === 0 || truth === 0) return 0
  const [precision, recall] = [predictedNear / predicted, truthNear / truth]
  return precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall)
}

// --- the ceiling of the output stride -------------------------------------------------------------------------------------

/** What a model that never errs would score at the output stride; empty where no stride was given. */
export function ceilingScores({
  classes,
  background,
  ceilings,
}: Evaluation): (AllMeans & { readonly stride: number; readonly enlargement: Enlargement })[] {
  return ceilings.map(({ stride, enlargement, confusion }) => ({
    stride,
    enlargement,
    ...meansOf(new ConfusionMatrix(classes.length).addCells(confusion), background),
  }))
}
