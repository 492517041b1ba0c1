import fc from "fast-check"
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { fromData, liveTensors, tensor } from "../torch/index.ts"
import {
  allScores,
  backgroundOnly,
  ConfusionMatrix,
  classScores,
  frequencyWeightedIoU,
  meanF1,
  meanIoU,
  meanIoUPresent,
  meanIoUWithoutBackground,
  metricNames,
  pixelAccuracy,
  trivialClass,
} from "./index.ts"

const K = 4
const VOID = 255
const matrixOf = (truth: readonly number[], prediction: readonly number[]) =>
  new ConfusionMatrix(K).add(Uint8Array.from(prediction), Uint8Array.from(truth))

// Truth   0 0 0 0 1 1 void      class 0: 3 right, union 4 + 1 = 5; class 1: 1 right, union 2 + 1 = 3
// Guess   0 0 0 1 1 0 2         class 2: only in the prediction of a void pixel; class 3: nowhere
const worked = () => matrixOf([0, 0, 0, 0, 1, 1, VOID], [0, 0, 0, 1, 1, 0, 2])

test("rows are the truth, columns the prediction; void pixels count nowhere", () => {
  expect(worked().toJSON().counts).toEqual([
    [3, 1, 0, 0],
    [1, 1, 0, 0],
    [0, 0, 0, 0],
    [0, 0, 0, 0],
  ])
})

test("scores worked by hand", () => {
  const [zero, one, two] = classScores(worked())
  expect(zero).toEqual({ iou: 3 / 5, precision: 3 / 4, recall: 3 / 4, f1: 3 / 4, truthPixels: 4, predictedPixels: 4 })
  expect(one).toEqual({ iou: 1 / 3, precision: 1 / 2, recall: 1 / 2, f1: 1 / 2, truthPixels: 2, predictedPixels: 2 })
  expect(two).toEqual({ iou: null, precision: null, recall: null, f1: null, truthPixels: 0, predictedPixels: 0 })
  expect(allScores(worked(), { background: 0 })).toEqual({
    meanIoU: { value: (3 / 5 + 1 / 3) / 2, leftOut: [2, 3] },
    meanIoUWithoutBackground: { value: 1 / 3, leftOut: [2, 3] },
    meanIoUPresent: { value: (3 / 5 + 1 / 3) / 2, leftOut: [2, 3] },
    meanF1: { value: (3 / 4 + 1 / 2) / 2, leftOut: [2, 3] },
    frequencyWeightedIoU: { value: (4 / 6) * (3 / 5) + (2 / 6) * (1 / 3), leftOut: [2, 3] },
    meanAccuracy: { value: (3 / 4 + 1 / 2) / 2, leftOut: [2, 3] },
    pixelAccuracy: { value: 4 / 6, leftOut: [] },
  })
})

test("a class that is predicted but not there has IoU 0 and pulls the mean down; one that is nowhere does not", () => {
  const matrix = matrixOf([0, 0, 1], [0, 3, 1])
  expect(classScores(matrix).map(({ iou }) => iou)).toEqual([1 / 2, 1, null, 0])
  expect(meanIoU(matrix)).toEqual({ value: 1.5 / 3, leftOut: [2] })
  expect(meanF1(matrix)).toEqual({ value: (2 / 3 + 1 + 0) / 3, leftOut: [2] })
  expect(meanIoUPresent(matrix)).toEqual({ value: 1.5 / 2, leftOut: [2, 3] }) // not this one, and so it is no score to quote
  expect(frequencyWeightedIoU(matrix)).toEqual({ value: (2 / 3) * (1 / 2) + 1 / 3, leftOut: [2, 3] })
})

test("the background trap: predicting only background looks good by pixels, and is nothing without background", () => {
  const truth = [...Array(90).fill(0), ...Array(8).fill(1), 2, 2]
  const matrix = backgroundOnly(matrixOf(truth, truth), 0)
  expect(pixelAccuracy(matrix).value).toBe(0.9)
  expect(meanIoU(matrix)).toEqual({ value: 0.9 / 3, leftOut: [3] })
  expect(meanIoUWithoutBackground(matrix)).toEqual({ value: 0, leftOut: [3] })
})

test("backgroundOnly is the matrix of that very prediction", () => {
  const truth = [0, 1, 1, 3, VOID, 2]
  const trivial = matrixOf(truth, Array(6).fill(2))
  expect(backgroundOnly(matrixOf(truth, [3, 2, 1, 0, 0, 0]), 2)).toEqual(trivial)
  expect(() => backgroundOnly(trivial, 4)).toThrow("backgroundOnly: background is 4; expected a class, 0..3.")
})

test("the class to beat is background, or the largest where there is none", () => {
  const matrix = matrixOf([0, 1, 1, 2, VOID, VOID, VOID], [3, 3, 3, 3, 3, 3, 3])
  expect(trivialClass(matrix, 2)).toBe(2)
  expect(trivialClass(matrix, null)).toBe(1)
})

test("without background class, the mean without background is the mean", () => {
  const options = { background: null }
  expect(meanIoUWithoutBackground(worked(), options)).toEqual(meanIoU(worked()))
})

test("nothing counted: every score is null, never 0, 1 or NaN", () => {
  const empty = matrixOf([VOID, VOID], [0, 1])
  for (const [name, { value }] of Object.entries(allScores(empty))) expect(value, name).toBeNull()
})

// --- against brute force -------------------------------------------------------------------------------------------

const pixels = fc.array(fc.record({ t: fc.constantFrom(0, 1, 2, 3, VOID), p: fc.integer({ min: 0, max: K - 1 }) }), {
  maxLength: 60,
})

test("counts and scores equal those by their definitions on sets of pixels", () => {
  fc.assert(
    fc.property(pixels, (all) => {
      const matrix = matrixOf(
        all.map(({ t }) => t),
        all.map(({ p }) => p),
      )
      const seen = all.filter(({ t }) => t !== VOID)
      const size = (keep: (pixel: { t: number; p: number }) => boolean) => seen.filter(keep).length
      const share = (part: number, whole: number) => (whole ? part / whole : null)
      for (const [k, scores] of classScores(matrix).entries()) {
        for (let p = 0; p < K; p++) expect(matrix.at(k, p)).toBe(size((pixel) => pixel.t === k && pixel.p === p))
        const both = size(({ t, p }) => t === k && p === k)
        expect(scores).toEqual({
          iou: share(
            both,
            size(({ t, p }) => t === k || p === k),
          ),
          precision: share(
            both,
            size(({ p }) => p === k),
          ),
          recall: share(
            both,
            size(({ t }) => t === k),
          ),
          f1: share(2 * both, size(({ t }) => t === k) + size(({ p }) => p === k)),
          truthPixels: size(({ t }) => t === k),
          predictedPixels: size(({ p }) => p === k),
        })
      }
      expect(pixelAccuracy(matrix).value).toBe(
        share(
          size(({ t, p }) => t === p),
          seen.length,
        ),
      )
    }),
  )
})

test("tensors, typed arrays and merged parts count alike", () => {
  fc.assert(
    fc.property(pixels, fc.nat(60), (all, cut) => {
      const truth = all.map(({ t }) => t)
      const prediction = all.map(({ p }) => p)
      const whole = matrixOf(truth, prediction)
      for (const dtype of ["int64", "uint8", "int32"] as const) {
        using p = tensor([prediction], { dtype })
        using t = tensor([truth], { dtype })
        expect(new ConfusionMatrix(K).add(p, t)).toEqual(whole)
      }
      const first = matrixOf(truth.slice(0, cut), prediction.slice(0, cut))
      expect(first.merge(matrixOf(truth.slice(cut), prediction.slice(cut)))).toEqual(whole)
    }),
    { numRuns: 50 },
  )
})

// --- properties ----------------------------------------------------------------------------------------------------

test("other numbers for the classes change no score", () => {
  const renumbered = fc.shuffledSubarray([0, 1, 2, 3], { minLength: K, maxLength: K })
  fc.assert(
    fc.property(pixels, renumbered, (all, order) => {
      const to = (label: number) => order[label] ?? label
      const [truth, prediction] = [all.map(({ t }) => t), all.map(({ p }) => p)]
      const [before, after] = [matrixOf(truth, prediction), matrixOf(truth.map(to), prediction.map(to))]
      const [ofClasses, ofRenumbered] = [classScores(before), classScores(after)]
      for (const [k, scores] of ofClasses.entries()) expect(ofRenumbered[to(k)]).toEqual(scores)
      const scores = allScores(after, { background: to(0) })
      for (const [name, { value, leftOut }] of Object.entries(allScores(before, { background: 0 }))) {
        const other = scores[name as keyof typeof scores]
        if (value === null) expect(other.value).toBeNull()
        else expect(other.value, name).toBeCloseTo(value, 14) // the classes are summed in another order
        expect(other.leftOut.toSorted()).toEqual(leftOut.map(to).sort())
      }
    }),
    { numRuns: 50 },
  )
})

test("what is predicted at void pixels changes nothing", () => {
  fc.assert(
    fc.property(
      pixels,
      fc.array(fc.constantFrom(0, 1, 2, 3, VOID), { minLength: 60, maxLength: 60 }),
      (all, others) => {
        const truth = all.map(({ t }) => t)
        const changed = all.map(({ t, p }, i) => (t === VOID ? (others[i] as number) : p))
        expect(matrixOf(truth, changed)).toEqual(
          matrixOf(
            truth,
            all.map(({ p }) => p),
          ),
        )
      },
    ),
    { numRuns: 50 },
  )
})

// Masks have long runs of a label, and are counted four pixels at a time.
const runs = fc
  .array(fc.tuple(fc.constantFrom(0, 1, 3, VOID), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 1, max: 40 })))
  .map((parts) => parts.flatMap(([t, p, length]) => Array.from({ length }, () => ({ t, p }))))

test("bytes count as other numbers do, wherever they begin in memory", () => {
  fc.assert(
    fc.property(runs, fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 3 }), (all, p0, t0) => {
      const [truth, prediction] = [all.map(({ t }) => t), all.map(({ p }) => p)]
      const moved = (labels: number[], by: number) => Uint8Array.from([...Array(by).fill(7), ...labels]).subarray(by)
      const bytes = new ConfusionMatrix(K).add(moved(prediction, p0), moved(truth, t0))
      expect(bytes).toEqual(new ConfusionMatrix(K).add(Int32Array.from(prediction), Int32Array.from(truth)))
    }),
  )
})

test("254 classes, each taken for another", () => {
  const labels = Uint8Array.from({ length: 254 }, (_, k) => k)
  const matrix = new ConfusionMatrix(254).add(labels.toReversed(), labels)
  for (const k of labels) expect(matrix.at(k, 253 - k)).toBe(1)
  expect(pixelAccuracy(matrix).value).toBe(0)
})

test("its cells carry a matrix over", () => {
  const matrix = worked()
  expect(matrix.cells()).toEqual([
    [0, 0, 3],
    [0, 1, 1],
    [1, 0, 1],
    [1, 1, 1],
  ])
  expect(new ConfusionMatrix(K).addCells(matrix.cells())).toEqual(matrix)
  expect(() => new ConfusionMatrix(2).addCells([[0, 2, 1]])).toThrow("there is no cell [0, 2] in 2 classes")
})

// --- borders -------------------------------------------------------------------------------------------------------

test("every score lies in 0 to 1, and a perfect prediction has 1", () => {
  const truth = [0, 1, 2, 3, 3]
  for (const name of metricNames) expect(allScores(matrixOf(truth, truth))[name].value, name).toBe(1)
})

test("labels outside the classes are named, with their place, and nothing is counted", () => {
  const matrix = worked()
  const before = matrix.toJSON()
  const add = (prediction: number[], truth: number[]) => () =>
    matrix.add(Int32Array.from(prediction), Int32Array.from(truth))
  const addBytes = (prediction: number[], truth: number[]) => () =>
    matrix.add(Uint8Array.from(prediction), Uint8Array.from(truth))
  for (const attempt of [add, addBytes]) {
    expect(attempt([0, 4], [0, 0])).toThrow("ConfusionMatrix: prediction has label 4 at pixel 1; expected 0..3.")
    expect(attempt([0, VOID], [0, 1])).toThrow("ConfusionMatrix: prediction has label 255 at pixel 1; expected 0..3.")
    expect(attempt([0, 9], [0, VOID])).toThrow("ConfusionMatrix: prediction has label 9 at pixel 1; expected 0..3.")
    expect(attempt([0, 0, 0], [0, 0, 9])).toThrow(
      "ConfusionMatrix: target has label 9 at pixel 2; expected 0..3 or 255 (ignored).",
    )
  }
  expect(add([0, -1], [0, VOID])).toThrow("ConfusionMatrix: prediction has label -1 at pixel 1; expected 0..3.")
  expect(matrix.toJSON()).toEqual(before)
  const later = new ConfusionMatrix(10).add(Uint8Array.of(0, 1), Uint8Array.of(0, 1)) // nothing is left of what was refused
  expect(later.cells()).toEqual([
    [0, 0, 1],
    [1, 1, 1],
  ])
})

test("a mask scored against itself says void where the truth does", () => {
  const labels = [0, 1, VOID, 2, VOID]
  expect(pixelAccuracy(matrixOf(labels, labels)).value).toBe(1)
  const numbers = Int32Array.from(labels)
  expect(new ConfusionMatrix(K).add(numbers, numbers)).toEqual(matrixOf(labels, labels))
})

test("another ignore index", () => {
  const matrix = new ConfusionMatrix(2).add(Uint8Array.of(0, 1), Uint8Array.of(9, 1), { ignoreIndex: 9 })
  expect(matrix.toJSON().counts).toEqual([
    [0, 0],
    [0, 1],
  ])
  const pairs = [
    [Uint8Array.of(0, 1, 1), Uint8Array.of(0, 0, 1)],
    [Int32Array.of(0, 1, 1), Int32Array.of(0, 0, 1)],
  ] as const
  for (const [prediction, truth] of pairs) {
    const add = (ignoreIndex: number) => new ConfusionMatrix(2).add(prediction, truth, { ignoreIndex }).cells()
    expect(add(0)).toEqual([[1, 1, 1]]) // a class that is ignored
    expect(add(-100)).toEqual([
      [0, 0, 1],
      [0, 1, 1],
      [1, 1, 1],
    ])
  }
})

test("sizes and types that do not fit are named", () => {
  const matrix = new ConfusionMatrix(2)
  expect(() => matrix.add(Uint8Array.of(0, 1), Uint8Array.of(0))).toThrow(
    "ConfusionMatrix: prediction is [2] but target is [1].",
  )
  const row = fromData(Uint8Array.of(0, 1), [1, 2])
  const column = fromData(Uint8Array.of(0, 1), [2, 1])
  expect(() => matrix.add(row, column)).toThrow("ConfusionMatrix: prediction is [1, 2] but target is [2, 1].")
  expect(() => matrix.add(row.to({ dtype: "float32" }), row)).toThrow(/float32\[1, 2\]; expected integers/)
  expect(() => matrix.merge(new ConfusionMatrix(3))).toThrow("cannot merge 3 classes into 2")
  expect(() => new ConfusionMatrix(0)).toThrow(RangeError)
})

test("JSON carries it over; anything else is refused", () => {
  const matrix = worked()
  expect(ConfusionMatrix.fromJSON(JSON.parse(JSON.stringify(matrix)))).toEqual(matrix)
  for (const wrong of [{}, null, { counts: [] }, { counts: [[1, 2]] }, { counts: [[-1]] }, { counts: [["1"]] }]) {
    expect(() => ConfusionMatrix.fromJSON(wrong as never), JSON.stringify(wrong)).toThrow(UserError)
  }
})

test("counting leaves no tensor behind", () => {
  using labels = tensor([0, 1], { dtype: "int64" })
  const before = liveTensors()
  new ConfusionMatrix(2).add(labels, labels)
  expect(liveTensors()).toBe(before)
})
