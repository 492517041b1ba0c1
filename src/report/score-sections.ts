// What the scores say: with their intervals and beside those of predicting nothing, class by class, by every convention that people
// confuse, confusion by confusion, and whether the model knows when it is wrong.
import {
  BAND_SHARE,
  boundaryMeans,
  boundaryScores,
  type Calibration,
  type ConfusionMatrix,
  ceilingScores,
  classScores,
  type Evaluation,
  honestyTable,
  type Intervals,
  intervalsOf,
  matrixOf,
  type Scores,
  scoresOf,
  shownMetrics,
  TOLERANCE_SHARE,
} from "../metrics/index.ts"
import { number, plural } from "../train/facts.ts"
import type { RunRecord } from "../train/run-folder.ts"
import { barChart } from "./charts/bar.ts"
import { heatmap } from "./charts/heatmap.ts"
import { lineChart } from "./charts/line.ts"
import { classCharts } from "./curves.ts"
import type { ErrorSummary } from "./errors.ts"
import { errorLegend } from "./errors.ts"
import { chartGrid, dataTable, details, figure, type Html, html, notice, section } from "./html.ts"
import {
  enlargementWords,
  leftOutSentences,
  list,
  metricTitles,
  nothingLearned,
  percent,
  range,
  signed,
} from "./words.ts"

/** Scores and intervals, computed once for all that shows them. */
export interface Scored {
  readonly evaluation: Evaluation
  readonly scores: Scores
  readonly intervals: Intervals
}

export const scored = (evaluation: Evaluation): Scored => ({
  evaluation,
  scores: scoresOf(evaluation),
  intervals: intervalsOf(evaluation),
})

/** "Mean IoU 54.6 % (95 % interval 51.2 to 57.9); predicting only background would score 10.6 %." */
export function scoreSentence({ scores, intervals }: Scored): string {
  return (
    `Mean IoU ${percent(scores.meanIoU)} % (95 % interval ${range(intervals.means.meanIoU)}); ` +
    `predicting only ${scores.trivial.name} would score ${percent(scores.trivial.meanIoU)} %.`
  )
}

export function scoresSection(all: Scored): Html {
  const { evaluation, scores, intervals } = all
  const { trivial } = scores
  const rows = shownMetrics(scores).map((name) => [
    metricTitles[name],
    percent(scores[name] ?? null),
    percent(trivial[name] ?? null),
    range(intervals.means[name]),
  ])
  const ceilings = ceilingScores(evaluation)
  const nothing = nothingLearned(scores)
  return section(
    "Scores",
    nothing !== null && notice(nothing),
    dataTable({
      caption: `Per cent, over ${evaluation.images.length.toLocaleString("en")} images`,
      head: ["", "this model", `only ${trivial.name}`, "95 % interval"],
      rows,
    }),
    html`<p>The intervals say how a score would move with other images of the kind (bootstrap over images). Only a score above that of predicting ${trivial.name} everywhere shows that something was learned. ${leftOutSentences(scores).join(" ")}</p>`,
    ceilings.length > 0 &&
      html`<p>The model's labels are made on a grid of one for ${ceilings[0]!.stride} x ${ceilings[0]!.stride} pixels. Even perfect ones would not score 100: enlarged ${list(
        ceilings.map(
          ({ enlargement, meanIoU }) => `${enlargementWords[enlargement]} their mean IoU is ${percent(meanIoU)}`,
        ),
      )}.</p>`,
  )
}

export function classesSection({ evaluation, scores, intervals }: Scored, records: readonly RunRecord[]): Html {
  const contours = boundaryScores(evaluation)
  const pixels = scores.classes.reduce((sum, { truthPixels }) => sum + truthPixels, 0)
  const bars = scores.classes.flatMap(({ name, iou }, k) => {
    const { low, high } = intervals.classes[k]!
    if (iou === null) return []
    const interval = low === null || high === null ? undefined : ([100 * low, 100 * high] as const)
    return [{ label: name, value: Number(percent(iou)), interval }]
  })
  const over = classCharts(records)
  const rows = scores.classes.map(({ name, iou, precision, recall, f1, truthPixels }, k) => [
    name,
    percent(iou),
    range(intervals.classes[k]!),
    percent(precision),
    percent(recall),
    percent(f1 ?? null),
    ...(contours
      ? [percent(contours[k]!.iou), percent(contours[k]!.f1), contours[k]!.hausdorff95?.toFixed(1) ?? "-"]
      : []),
    percent(pixels > 0 ? truthPixels / pixels : null),
    ...(contours ? [contours[k]!.images] : []),
  ])
  const means = contours && boundaryMeans(contours)
  rows.push([
    "mean of classes",
    percent(scores.meanIoU),
    range(intervals.means.meanIoU),
    "",
    percent(scores.meanAccuracy),
    percent(scores.meanF1 ?? null),
    ...(means ? [percent(means.iou), percent(means.f1), means.hausdorff95?.toFixed(1) ?? "-"] : []),
    "",
    ...(contours ? [""] : []),
  ])
  const missing = contours?.reduce((sum, { withoutDistance }) => sum + withoutDistance, 0) ?? 0
  return section(
    "Each class",
    figure(
      barChart({ title: "IoU of each class", unit: "per cent", bars }),
      "The lines over the bars are the 95 % intervals.",
    ),
    dataTable({
      head: [
        "class",
        "IoU",
        "95 % interval",
        "precision",
        "recall",
        "F1",
        ...(contours ? ["boundary IoU", "boundary F1", "Hausdorff 95 (pixels)"] : []),
        "% of pixels",
        ...(contours ? ["images"] : []),
      ],
      rows,
    }),
    contours &&
      html`<p>Boundary IoU looks at bands along contours of ${percent(BAND_SHARE)} % of the image's diagonal; boundary F1 allows contours to be ${number(100 * TOLERANCE_SHARE)} % of it away from each other; Hausdorff 95 is the distance that 95 % of the contour stays within. Images: with the class in truth or prediction.${
        missing > 0
          ? ` The Hausdorff distances leave out ${plural(missing, "time")} that a class is in an image's truth or in its prediction only; boundary F1 counts these as 0.`
          : ""
      }</p>`,
    over.length > 0 && [
      html`<h3>IoU of each class over the run</h3>`,
      chartGrid(over, { small: true }),
      html`<p>All on the same axes; the number at a line's end is the last one.</p>`,
    ],
  )
}

export function honestySection({ evaluation, scores }: Scored): Html {
  const rows = honestyTable(evaluation)
  const quoted = rows[0]?.value ?? null
  return section(
    "Which mean IoU? The same prediction by all conventions",
    html`<p>The first row is the one to quote. Numbers of different rows cannot be compared, and a row that claims much for predicting only ${scores.trivial.name} says little about anything.</p>`,
    dataTable({
      head: ["convention", "would claim, %", "against the first", `only ${scores.trivial.name}, %`, "what it counts"],
      rows: rows.map(({ name, value, trivial, whatItCounts, leavesOut, trap }) => [
        name,
        percent(value),
        value === null || quoted === null ? "-" : signed(value - quoted),
        percent(trivial),
        html`${whatItCounts}${leavesOut && ` Leaves out ${leavesOut}`}${trap && html` <em>${trap}</em>`}`,
      ]),
      words: [0, 4],
    }),
  )
}

/** Wider tables nobody reads, and of 150 classes it would be a megabyte. */
const MOST_COLUMNS = 40

export function confusionSection({ evaluation, scores }: Scored): Html {
  const matrix = matrixOf(evaluation)
  const { classes } = evaluation
  const shares = sharesOfTruth(matrix)
  const confusions = shares
    .flatMap((row, t) => row.map((share, p) => ({ t, p, share: share ?? 0 })))
    .filter(({ t, p, share }) => t !== p && share >= 0.01)
    .sort((a, b) => b.share - a.share)
    .slice(0, 5)
  return section(
    "What is taken for what",
    figure(
      heatmap({
        title: "Confusion matrix, per cent of each true class",
        rows: classes,
        columns: classes,
        values: shares.map((row) => row.map((share) => (share === null ? null : share < 0.005 ? 0 : share))),
        format: (share) => (100 * share).toFixed(0),
        rowTitle: "truth",
        columnTitle: "prediction",
        most: 1,
      }),
      "Each row adds up to 100: where the pixels of a class went. The diagonal is the recall. Empty cells are below half a per cent; rows of dots are classes that the truth does not have.",
    ),
    confusions.length > 0 &&
      html`<p>Most confused: ${list(
        confusions.map(({ t, p, share }) => `${(100 * share).toFixed(0)} % of ${classes[t]} taken for ${classes[p]}`),
      )}.</p>`,
    classes.length <= MOST_COLUMNS &&
      details(
        "In pixels",
        dataTable({
          caption: "Rows are the truth, columns the prediction.",
          head: ["", ...classes],
          rows: scores.classes.map(({ name }, t) => [
            name,
            ...classes.map((_, p) => matrix.at(t, p).toLocaleString("en")),
          ]),
        }),
      ),
  )
}

/** [truth][prediction] shares of the pixels of a true class; null for classes that the truth does not have. */
function sharesOfTruth(matrix: ConfusionMatrix): (number | null)[][] {
  return classScores(matrix).map(({ truthPixels }, t) =>
    Array.from({ length: matrix.classes }, (_, p) => (truthPixels === 0 ? null : matrix.at(t, p) / truthPixels)),
  )
}

export function calibrationSection({ calibration }: Evaluation): Html | null {
  if (calibration === null || calibration.ece === null) return null
  return section(
    "Does it know when it is wrong?",
    html`<p>Expected calibration error: ${percent(calibration.ece)} %. So far apart, on average over pixels, are the confidence of a prediction and the share of such predictions that are right. Below the diagonal the model is surer than it should be.</p>`,
    reliabilityCharts(calibration),
  )
}

function reliabilityCharts({ bins }: Calibration): Html {
  const filled = bins.filter(({ pixels }) => pixels > 0)
  const pixels = filled.reduce((sum, bin) => sum + bin.pixels, 0)
  const points = filled.map(({ confidence, accuracy }) => [100 * confidence!, 100 * accuracy!] as const)
  return chartGrid([
    lineChart({
      title: "Reliability",
      x: { name: "confidence", unit: "per cent" },
      y: { name: "right", unit: "per cent of the pixels", upTo: 100 },
      series: [
        { name: "this model", points, marks: true },
        {
          name: "as sure as right",
          points: [
            [0, 0],
            [100, 100],
          ],
          faint: true,
          look: 7,
        },
      ],
    }),
    barChart({
      title: "How sure it is",
      unit: "per cent of the pixels",
      bars: filled.map(({ low, high, pixels: count }) => ({
        label: `${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)} % sure`,
        value: Number(percent(count / pixels)),
      })),
    }),
  ])
}

export function errorsSection({ pixels, wrong, meanIoU, kinds }: ErrorSummary): Html {
  const named = (kind: (typeof kinds)[number]["kind"]) => errorLegend.find((entry) => entry.kind === kind)!
  return section(
    "What kind of errors it makes",
    html`<p>${percent(pixels > 0 ? wrong / pixels : null)} % of all pixels are wrong. A border that is a little off, an object that was missed, one that is not there, and one that was given another class want different remedies: what mending each kind alone would bring shows which of them is worth the work.</p>`,
    dataTable({
      head: ["kind of error", "% of all pixels", "% of the errors", "mean IoU without them, %", "gain", "what it is"],
      rows: kinds.map(({ kind, pixels: ofKind, share, meanIoUIfRight }) => [
        named(kind).name,
        percent(pixels > 0 ? ofKind / pixels : null),
        percent(share),
        percent(meanIoUIfRight),
        meanIoUIfRight === null || meanIoU === null ? "-" : signed(meanIoUIfRight - meanIoU),
        named(kind).meaning,
      ]),
      words: [0, 5],
    }),
  )
}
