import { expect, test } from "vitest"
import { ShapeError } from "../torch/index.ts"
import { ConfusionMatrix } from "./confusion-matrix.ts"
import { Evaluator, type EvaluatorOptions, matrixOf, matrixOfImage, type ScoredImage } from "./evaluation.ts"

const VOID = 255
const about = { classes: ["background", "cat", "dog"], background: 0 }
const evaluator = (options: Partial<EvaluatorOptions> = {}) => new Evaluator({ ...about, ...options })

const first: ScoredImage = {
  id: "first",
  width: 3,
  height: 2,
  truth: Uint8Array.of(0, 0, 1, 0, VOID, 1),
  prediction: Uint8Array.of(0, 1, 1, 0, 2, 1),
}
const second: ScoredImage = {
  id: "second",
  width: 2,
  height: 2,
  truth: Uint8Array.of(0, 0, 2, 2),
  prediction: Uint8Array.of(0, 0, 0, 0),
}

test("each image is kept, and the set's matrix is their sum", () => {
  const scorer = evaluator()
  const kept = [scorer.add(first), scorer.add(second)]
  const evaluation = scorer.finish()
  expect(evaluation.images).toEqual(kept)
  expect(kept[0]).toMatchObject({
    id: "first",
    width: 3,
    height: 2,
    confusion: [
      [0, 0, 2],
      [0, 1, 1],
      [1, 1, 2],
    ],
  })
  const [one, two] = [first, second].map(({ prediction, truth }) => new ConfusionMatrix(3).add(prediction, truth))
  expect(kept.map((image) => matrixOfImage(image, 3))).toEqual([one, two])
  expect(matrixOf(evaluation)).toEqual(one!.merge(two!))
  expect(evaluation).toMatchObject({ ...about, calibration: null, ceilings: [] })
})

test("it is plain data: JSON gives it back", () => {
  const scorer = evaluator({ stride: 2 })
  scorer.add({ ...first, confidence: new Float32Array(6).fill(0.5) })
  const evaluation = scorer.finish()
  expect(JSON.parse(JSON.stringify(evaluation))).toEqual(evaluation)
})

test("boundaries are of the classes in truth or prediction, and can be left out", () => {
  const { boundary, hausdorff95 } = evaluator().add(first)
  expect(boundary?.map((counts) => counts.class)).toEqual([0, 1])
  expect(hausdorff95).toEqual([expect.any(Number), expect.any(Number), null]) // dog was predicted at void only
  expect(evaluator({ boundary: false }).add(first)).toMatchObject({ boundary: null, hausdorff95: [null, null, null] })
})

test("a mask scored against itself is all right, void included", () => {
  const { confusion } = evaluator().add({ ...first, prediction: first.truth })
  expect(confusion).toEqual([
    [0, 0, 3],
    [1, 1, 2],
  ])
})

test("confidences of all images make one calibration", () => {
  const scorer = evaluator()
  scorer.add({ ...first, confidence: new Float32Array(6).fill(0.7) }) // 4 of 5 right
  scorer.add({ ...second, confidence: new Float32Array(4).fill(0.7) }) // 2 of 4
  const { calibration } = scorer.finish()
  expect(calibration?.bins.find(({ pixels }) => pixels > 0)).toMatchObject({ pixels: 9, accuracy: 6 / 9 })
  expect(calibration?.ece).toBeCloseTo(0.7 - 6 / 9, 7) // 0.7 is a float32
})

test("ceilings are sums over images, of both ways to enlarge", () => {
  const scorer = evaluator({ stride: 2 })
  scorer.add(first) // cells of 2 x 2 and 1 x 2: all 0 and void, all 1
  scorer.add(second) // one cell: two of each, so half of it is wrong
  const { ceilings } = scorer.finish()
  expect(ceilings.map(({ stride, enlargement }) => [stride, enlargement])).toEqual([
    [2, "nearest"],
    [2, "bilinear"],
  ])
  expect(ceilings[0]!.confusion).toEqual([
    [0, 0, 5],
    [1, 1, 2],
    [2, 0, 2],
  ])
})

test("what does not fit is named with its image, and nothing is kept", () => {
  const scorer = evaluator()
  const refused = (image: Partial<ScoredImage>) => expect(() => scorer.add({ ...first, ...image }))
  refused({ prediction: new Uint8Array(5) }).toThrow(ShapeError)
  refused({ truth: new Uint8Array(7) }).toThrow("Evaluator: truth of first has 7 pixels; expected 3 x 2.")
  refused({ confidence: new Float32Array(5) }).toThrow("confidence of first has 5 pixels")
  refused({ prediction: new Uint8Array(6).fill(3) }).toThrow("prediction has label 3 at pixel 0; expected 0..2")
  refused({ prediction: first.truth.map((t) => (t === VOID ? 0 : VOID)) }).toThrow(
    "prediction has label 255 at pixel 0",
  )
  refused({ truth: new Uint8Array(6).fill(3) }).toThrow("target has label 3")
  refused({ confidence: new Float32Array(6).fill(2) }).toThrow("confidence at pixel 0 is 2")
  expect(scorer.finish()).toMatchObject({ images: [], calibration: null })

  scorer.add(first)
  const confidence = new Float32Array(4)
  expect(() => scorer.add({ ...second, confidence })).toThrow(
    "second has confidences, but the images before have none.",
  )
  const other = evaluator()
  other.add({ ...second, confidence })
  expect(() => other.add(first)).toThrow("first has no confidences, but the images before have them.")
  expect(other.finish().images).toHaveLength(1)
})

test("options that make no sense", () => {
  expect(() => evaluator({ background: 3 })).toThrow("background is 3; expected a class, 0..2, or null")
  expect(() => evaluator({ stride: 0 })).toThrow("stride is 0")
  expect(evaluator({ background: null }).finish().background).toBeNull()
})
