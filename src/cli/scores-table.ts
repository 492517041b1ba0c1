// The tables that evaluation prints: per-class scores, the means with what they leave out, beside them what predicting nothing
// would score, and of a whole evaluation also intervals, contours, calibration, ceilings and the conventions side by side.
import { groupBy } from "../arrays.ts"
import {
  BAND_SHARE,
  boundaryMeans,
  boundaryScores,
  ceilingScores,
  type Evaluation,
  honestyTable,
  type Intervals,
  intervalsOf,
  type Scores,
  scoresOf,
  shownMetrics,
  TOLERANCE_SHARE,
} from "../metrics/index.ts"
import {
  enlargementWords,
  leftOutSentences,
  list,
  metricTitles,
  nothingLearned,
  percent,
  range,
} from "../report/words.ts"
import { table } from "./output.ts"

/** @param intervals where the scores are of images that are known one by one */
export function scoresTable(scores: Scores, intervals?: Intervals): string {
  const total = scores.classes.reduce((sum, { truthPixels }) => sum + truthPixels, 0)
  const perClass = table(
    ["class", "IoU", ...(intervals ? ["95 % interval"] : []), "precision", "recall", "F1", "share of pixels"],
    scores.classes.map(({ name, iou, precision, recall, truthPixels }, k) => [
      name,
      percent(iou),
      ...(intervals ? [range(intervals.classes[k]!, "–")] : []),
      percent(precision),
      percent(recall),
      percent(iou === null ? null : (2 * iou) / (1 + iou)), // older records have no F1
      percent(total > 0 ? truthPixels / total : null),
    ]),
  )
  const { trivial } = scores
  const means = table(
    ["per cent", "this model", ...(intervals ? ["95 % interval"] : []), `only ${trivial.name}`],
    shownMetrics(scores).map((name) => [
      metricTitles[name],
      percent(scores[name] ?? null),
      ...(intervals ? [range(intervals.means[name], "–")] : []),
      percent(trivial[name] ?? null),
    ]),
  )
  const nothing = nothingLearned(scores)
  return [`${perClass}\n\n${means}`, ...leftOutSentences(scores), ...(nothing === null ? [] : [nothing])].join("\n")
}

/** All that an evaluation says, as text. */
export function evaluationTable(evaluation: Evaluation): string {
  return [
    scoresTable(scoresOf(evaluation), intervalsOf(evaluation)),
    "The intervals say how the scores would move with other images of the kind (bootstrap over images).",
    ...boundaryTable(evaluation),
    ...calibrationLine(evaluation),
    ...ceilingLines(evaluation),
    honestyText(evaluation),
  ].join("\n")
}

function boundaryTable(evaluation: Evaluation): string[] {
  const scores = boundaryScores(evaluation)
  if (!scores) return []
  const missing = scores.reduce((sum, { withoutDistance }) => sum + withoutDistance, 0)
  const pixels = (distance: number | null) => (distance === null ? "-" : distance.toFixed(1))
  const means = boundaryMeans(scores)
  const rows = [
    ...scores.map(({ name, iou, f1, hausdorff95, images }) => [
      name,
      percent(iou),
      percent(f1),
      pixels(hausdorff95),
      String(images),
    ]),
    ["mean of classes", percent(means.iou), percent(means.f1), pixels(means.hausdorff95)],
  ]
  return [
    `\n${table(["contours", "boundary IoU", "boundary F1", "Hausdorff 95 (pixels)", "images"], rows)}`,
    `Boundary IoU looks at bands of ${percent(BAND_SHARE)} % of the image's diagonal, boundary F1 allows ` +
      `${(100 * TOLERANCE_SHARE).toFixed(2)} %; images: with the class in truth or prediction.`,
    ...(missing > 0
      ? [
          `The Hausdorff distances leave out ${missing} ${missing === 1 ? "time" : "times"} that an image has a class in its truth or in its prediction only; ` +
            `boundary F1 counts these as 0.`,
        ]
      : []),
  ]
}

function calibrationLine({ calibration }: Evaluation): string[] {
  if (calibration?.ece === null || calibration === null) return []
  return [
    `\nCalibration: confidence and accuracy are ${percent(calibration.ece)} points apart (expected calibration error, 15 bins).`,
  ]
}

function ceilingLines(evaluation: Evaluation): string[] {
  const scores = ceilingScores(evaluation)
  if (scores.length === 0) return []
  const parts = scores.map(
    ({ enlargement, meanIoU }) => `${percent(meanIoU)} enlarged ${enlargementWords[enlargement]}`,
  )
  const { stride } = scores[0]!
  return [
    `\nPerfect labels, one for ${stride} x ${stride} pixels as in this model, would have mean IoU ${parts.join(", ")}.`,
  ]
}

function honestyText(evaluation: Evaluation): string {
  const rows = honestyTable(evaluation)
  const quoted = rows[0]?.value ?? 0
  const only = scoresOf(evaluation).trivial.name
  const numbers = rows.map(({ name, value, trivial }) => [name, percent(value), percent(trivial)])
  const traps = rows.flatMap(({ name, value, trap }) =>
    trap !== undefined && value !== null && value > quoted + 0.001
      ? [`- ${name}, ${percent(value - quoted)} points more: ${trap}`]
      : [],
  )
  const leftOut = groupBy(
    rows.filter(({ leavesOut }) => leavesOut !== ""),
    ({ leavesOut }) => leavesOut,
  )
  return [
    `\n${table(["metric honesty (per cent)", "would claim", `only ${only}`], numbers)}`,
    ...Array.from(leftOut, ([what, its]) => `Left out in ${list(its.map(({ name }) => name))}: ${what}`),
    ...(traps.length > 0
      ? [
          "The first is the one to quote. Numbers of different rows cannot be compared; these claim more for the same prediction:",
        ]
      : []),
    ...traps,
  ].join("\n")
}
