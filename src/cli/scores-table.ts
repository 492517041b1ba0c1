// The table that evaluation prints: per-class scores, the means, and beside them what predicting nothing would score.
import type { Scores } from "../infer/evaluate.ts"
import { percent, table } from "./output.ts"

export function scoresTable(scores: Scores): string {
  const total = scores.classes.reduce((sum, { truthPixels }) => sum + truthPixels, 0)
  const perClass = table(
    ["class", "IoU", "precision", "recall", "share of pixels"],
    scores.classes.map(({ name, iou, precision, recall, truthPixels }) => [
      name,
      percent(iou),
      percent(precision),
      percent(recall),
      percent(total > 0 ? truthPixels / total : null),
    ]),
  )
  const { trivial } = scores
  const means = table(
    ["per cent", "this model", `only ${trivial.name}`],
    [
      ["mean IoU", percent(scores.meanIoU), percent(trivial.meanIoU)],
      ...(scores.meanIoUWithoutBackground === null
        ? [] // there is no background class
        : [
            [
              "mean IoU without background",
              percent(scores.meanIoUWithoutBackground),
              percent(trivial.meanIoUWithoutBackground),
            ],
          ]),
      ["pixel accuracy", percent(scores.pixelAccuracy), percent(trivial.pixelAccuracy)],
    ],
  )
  const notes = [
    ...(scores.leftOut.length > 0
      ? [`The means leave out classes in neither truth nor prediction: ${scores.leftOut.join(", ")}.`]
      : []),
    ...(isTrivial(scores)
      ? [`This model has learned nothing yet: predicting ${trivial.name} everywhere scores as well, or better.`]
      : []),
  ]
  return [`${perClass}\n\n${means}`, ...notes].join("\n")
}

/** Whether a model is no better than the trivial prediction: within one point of mean IoU. */
function isTrivial({ meanIoU, trivial }: Scores): boolean {
  return meanIoU !== null && trivial.meanIoU !== null && meanIoU < trivial.meanIoU + 0.01
}
