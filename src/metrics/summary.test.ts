import { expect, test } from "vitest"
import { ConfusionMatrix } from "./confusion-matrix.ts"
import { type Evaluation, Evaluator, type ImageEvaluation } from "./evaluation.ts"
import {
  boundaryF1,
  boundaryMeans,
  boundaryScores,
  ceilingScores,
  intervalsOf,
  scoresOf,
  summarize,
} from "./summary.ts"

const names = { classes: [{ name: "background" }, { name: "cat" }, { name: "dog" }], background: 0 }
const matrix = new ConfusionMatrix(3).addCells([
  [0, 0, 6],
  [0, 1, 2],
  [1, 1, 2],
])

test("scores stand beside those of predicting only background", () => {
  const scores = summarize(matrix, names)
  expect(scores).toMatchObject({
    meanIoU: (6 / 8 + 2 / 4) / 2,
    meanIoUWithoutBackground: 2 / 4,
    meanIoUPresent: (6 / 8 + 2 / 4) / 2,
    meanAccuracy: (6 / 8 + 1) / 2,
    pixelAccuracy: 8 / 10,
    leftOut: ["dog"],
    trivial: {
      name: "background",
      meanIoU: 8 / 10 / 2,
      meanIoUWithoutBackground: 0,
      meanAccuracy: 1 / 2,
      pixelAccuracy: 8 / 10,
    },
  })
  expect(scores.classes[1]).toMatchObject({ name: "cat", iou: 1 / 2, precision: 1 / 2, recall: 1, f1: 2 / 3 })
})

test("without background, the largest class is the trivial one, and there is no mean without background", () => {
  const scores = summarize(matrix, { classes: names.classes })
  expect(scores).toMatchObject({ meanIoUWithoutBackground: null, trivial: { meanIoUWithoutBackground: null } })
  expect(scores.trivial.name).toBe("background")
  const cats = new ConfusionMatrix(3).addCells([
    [0, 0, 1],
    [1, 1, 2],
  ])
  expect(summarize(cats, { classes: names.classes }).trivial.name).toBe("cat")
})

// --- evaluations ---------------------------------------------------------------------------------------------------

const counts = { class: 1, bandBoth: 0, bandEither: 0, predicted: 0, predictedNear: 0, truth: 0, truthNear: 0 }
const image = (id: string, parts: Partial<ImageEvaluation>): ImageEvaluation => ({
  id,
  width: 1,
  height: 10,
  confusion: matrix.cells(),
  boundary: [],
  hausdorff95: [null, null, null],
  ...parts,
})
const evaluationOf = (images: ImageEvaluation[]): Evaluation => ({
  classes: names.classes.map(({ name }) => name),
  background: 0,
  images,
  calibration: null,
  ceilings: [],
})

test("an evaluation's scores are its summed matrix's", () => {
  const evaluation = evaluationOf([image("a", {}), image("b", {})])
  expect(scoresOf(evaluation)).toEqual(summarize(new ConfusionMatrix(3).merge(matrix).merge(matrix), names))
  expect(scoresOf(evaluationOf([]))).toMatchObject({ meanIoU: null, leftOut: ["background", "cat", "dog"] })
})

test("contours over a set: bands are summed, F1 is a mean over images with the class, distances say what they leave out", () => {
  const evaluation = evaluationOf([
    image("a", {
      boundary: [{ ...counts, bandBoth: 3, bandEither: 4, predicted: 4, predictedNear: 3, truth: 2, truthNear: 1 }],
      hausdorff95: [null, 5, null],
    }),
    image("missed", { boundary: [{ ...counts, bandEither: 6, truth: 8 }] }),
    image("missed again", { boundary: [{ ...counts, bandEither: 5, truth: 8 }] }),
    image("without", {}),
  ])
  expect(boundaryScores(evaluation)?.[1]).toEqual({
    name: "cat",
    iou: 3 / 15,
    f1: (0.6 + 0 + 0) / 3, // 2 (3/4) (1/2) / (3/4 + 1/2)
    hausdorff95: 5,
    images: 3,
    withoutDistance: 2,
  })
  expect(boundaryScores(evaluation)?.[2]).toEqual({
    name: "dog",
    iou: null,
    f1: null,
    hausdorff95: null,
    images: 0,
    withoutDistance: 0,
  })
  expect(boundaryScores(evaluationOf([image("a", { boundary: null })]))).toBeNull()
  const [background, cat, dog] = boundaryScores(evaluation)!
  const sure = { ...background!, iou: 0.9, f1: 0.8 }
  expect(boundaryMeans([sure, cat!, dog!])).toEqual({ iou: (0.9 + 0.2) / 2, f1: (0.8 + 0.2) / 2, hausdorff95: 5 })
  expect(boundaryMeans([dog!])).toEqual({ iou: null, f1: null, hausdorff95: null })
})

test("boundary F1 where nothing is near, or only one has the class: 0", () => {
  expect(boundaryF1({ ...counts, predicted: 5, truth: 5 })).toBe(0)
  expect(boundaryF1({ ...counts, predicted: 5 })).toBe(0)
  expect(boundaryF1({ ...counts, truth: 5 })).toBe(0)
  expect(boundaryF1({ ...counts, predicted: 5, predictedNear: 5, truth: 3, truthNear: 3 })).toBe(1)
})

test("intervals hold the scores of the set, class by class too", () => {
  const wrong = new ConfusionMatrix(3).addCells([[1, 0, 4]]).cells()
  const evaluation = evaluationOf(
    Array.from({ length: 30 }, (_, i) => image(`${i}`, i % 3 ? {} : { confusion: wrong })),
  )
  const [{ means, classes }, scores] = [intervalsOf(evaluation, { samples: 300 }), scoresOf(evaluation)]
  for (const name of ["meanIoU", "meanF1", "pixelAccuracy", "meanIoUWithoutBackground"] as const) {
    const { value, low, high } = means[name]
    expect(value).toBe(scores[name])
    expect(low!).toBeLessThan(value!)
    expect(high!).toBeGreaterThan(value!)
  }
  expect(classes.map(({ value }) => value)).toEqual(scores.classes.map(({ iou }) => iou))
  expect(classes[2]).toEqual({ value: null, low: null, high: null })
  expect(classes[1]!.high! - classes[1]!.low!).toBeGreaterThan(0.05)
  const without = intervalsOf({ ...evaluation, background: null }, { samples: 2 })
  expect(without.means.meanIoUWithoutBackground).toEqual({ value: null, low: null, high: null })
})

test("ceilings by name", () => {
  const evaluator = new Evaluator({ classes: ["background", "cat"], background: 0, boundary: false, stride: 2 })
  evaluator.add({ id: "a", width: 3, height: 1, truth: Uint8Array.of(0, 0, 1), prediction: Uint8Array.of(1, 1, 1) })
  expect(ceilingScores(evaluator.finish())).toMatchObject([
    { stride: 2, enlargement: "nearest", meanIoU: 1, pixelAccuracy: 1 },
    { stride: 2, enlargement: "bilinear" },
  ])
  expect(ceilingScores(evaluationOf([]))).toEqual([])
})
