// Scores against scikit-learn's.
import { expect, test } from "vitest"
import { ConfusionMatrix, classScores, pixelAccuracy } from "../../src/metrics/index.ts"
import { goldenJson } from "./golden.ts"

interface MetricsGolden {
  truth: number[]
  prediction: number[]
  counts: number[][]
  iou: number[]
  precision: number[]
  recall: number[]
  pixelAccuracy: number
}

test("counts, IoU, precision, recall and accuracy equal scikit-learn's; where it divides by 0 ours are null", () => {
  const golden = goldenJson("metrics") as MetricsGolden
  const matrix = new ConfusionMatrix(6).add(Uint8Array.from(golden.prediction), Uint8Array.from(golden.truth))
  expect(matrix.toJSON().counts).toEqual(golden.counts)
  const scores = classScores(matrix)
  for (const name of ["iou", "precision", "recall"] as const) {
    for (const [k, score] of scores.entries())
      expect(score[name] ?? 0, `${name} of ${k}`).toBeCloseTo(golden[name][k] as number, 14)
  }
  expect(scores.map(({ iou }) => iou === null)).toEqual([false, false, false, true, false, false])
  expect(scores.map(({ precision }) => precision === null)).toEqual([false, false, false, true, false, true])
  expect(scores.map(({ recall }) => recall === null)).toEqual([false, false, false, true, true, false])
  expect(pixelAccuracy(matrix).value).toBeCloseTo(golden.pixelAccuracy, 14)
})
