// Reads mask and prediction of images and compares them: what scoring does with each image, on whatever thread.
import { type Numbering, predictionReader } from "../data/prediction-folder.ts"
import { masksReader, type VocMasks } from "../data/voc-folder.ts"
import { Evaluator, type ImageEvaluation } from "../metrics/evaluation.ts"

/** What is scored: a file for each id, in their order, or one class everywhere. */
export type Predictions =
  | { readonly files: readonly string[]; readonly numbering: Numbering }
  | { readonly constant: number }

/** Positions in the split: from the first to before the second. */
export type ScoreRange = readonly [from: number, to: number]

/** Scores, or the message of a UserError: between threads an error keeps its message but not its class. */
export type ScoreAnswer = { readonly images: readonly ImageEvaluation[] } | { readonly problem: string }

/** All that scoring depends on, as plain data. */
export type ScoreSetup = { readonly masks: VocMasks; readonly predictions: Predictions; readonly boundary: boolean }

/** A function that scores the images of a range. */
export function imageScorer({ masks, predictions, boundary }: ScoreSetup): (range: ScoreRange) => ImageEvaluation[] {
  const { labelMap, ids, masks: truths } = masks
  const classes = labelMap.classes.map(({ name }) => name)
  const evaluator = new Evaluator({ classes, background: labelMap.background ?? null, boundary })
  const readTruth = masksReader(masks)
  const readPrediction =
    "files" in predictions
      ? predictionReader(masks, predictions.numbering)
      : (_file: string, { width, height }: { width: number; height: number }) =>
          new Uint8Array(width * height).fill(predictions.constant)
  const files = "files" in predictions ? predictions.files : truths

  return ([from, to]) =>
    ids.slice(from, to).map((id, k) => {
      const file = truths[from + k]!
      const truth = readTruth(file)
      const { width, height, labels } = truth
      const prediction = readPrediction(files[from + k]!, { ...truth, file })
      return evaluator.add({ id, width, height, prediction, truth: labels })
    })
}
