import fc from "fast-check"
import { expect, test } from "vitest"
import { type Evaluation, Evaluator, matrixOf } from "./evaluation.ts"
import { honestyTable } from "./honesty.ts"
import { imageMetricNames, imageMetrics } from "./image-scores.ts"
import { meanIoU } from "./scores.ts"

const VOID = 255
const classes = ["background", "cat", "dog", "cow"]
type Pixel = readonly [truth: number, prediction: number]

function evaluationOf(images: readonly (readonly Pixel[])[], background: number | null = 0): Evaluation {
  const evaluator = new Evaluator({ classes, background, boundary: false })
  for (const [i, pixels] of images.entries()) {
    evaluator.add({
      id: String(i),
      width: pixels.length,
      height: 1,
      truth: Uint8Array.from(pixels, ([t]) => t),
      prediction: Uint8Array.from(pixels, ([, p]) => p),
    })
  }
  return evaluator.finish()
}

const numbers = (evaluation: Evaluation) =>
  Object.fromEntries(honestyTable(evaluation).map(({ name, value }) => [name, value]))

// First image: background 6 of 8 found, cat 2 of 2 found and 2 too many. Second: all background. Void: 2 pixels.
const repeat = (times: number, pixel: Pixel): Pixel[] => Array.from({ length: times }, () => pixel)
const worked = evaluationOf([
  [...repeat(6, [0, 0]), ...repeat(2, [0, 1]), ...repeat(2, [1, 1])],
  [...repeat(8, [0, 0]), ...repeat(2, [VOID, 3])],
])

test("each convention, by hand", () => {
  const [background, cat] = [14 / 16, 2 / 4]
  const [backgroundFirst, backgroundSecond] = [6 / 8, 1]
  const f1 = (iou: number) => (2 * iou) / (1 + iou)
  const expected = {
    "mean IoU": (background + cat) / 2,
    "mean IoU without background": cat,
    "mean IoU of present classes": (background + cat) / 2,
    "mean IoU, absent class as 1": (background + cat + 2) / 4,
    "mean IoU, absent class as 0": (background + cat) / 4,
    "mean IoU per image": ((backgroundFirst + cat) / 2 + backgroundSecond) / 2,
    "mean IoU per image, absent class as 1": ((backgroundFirst + cat + 2) / 4 + 1) / 2,
    "mean IoU per class and image": ((backgroundFirst + backgroundSecond) / 2 + cat) / 2,
    "micro IoU": 16 / 20,
    "frequency-weighted IoU": (16 / 18) * background + (2 / 18) * cat,
    "pixel accuracy (micro F1, micro recall)": 16 / 18,
    "pixel accuracy, void divided by too": 16 / 20,
    "mean accuracy (mean recall)": (14 / 16 + 1) / 2,
    "mean F1 (Dice)": (f1(background) + f1(cat)) / 2,
    "mean F1 (Dice) per image": ((f1(backgroundFirst) + f1(cat)) / 2 + 1) / 2,
  }
  const actual = numbers(worked)
  expect(Object.keys(actual)).toEqual(Object.keys(expected))
  for (const [name, value] of Object.entries(expected)) expect(actual[name], name).toBeCloseTo(value, 14)
})

test("each row says what it leaves out, and beside it what predicting only background would claim", () => {
  const rows = Object.fromEntries(honestyTable(worked).map((row) => [row.name, row]))
  expect(rows["mean IoU"]).toMatchObject({
    leavesOut: "dog, cow (in neither truth nor prediction).",
    trivial: (16 / 18 + 0) / 2,
  })
  expect(rows["mean IoU"]?.trap).toBeUndefined() // the one to quote
  expect(rows["mean IoU without background"]?.leavesOut).toBe("background; dog, cow (in neither truth nor prediction).")
  expect(rows["mean accuracy (mean recall)"]?.leavesOut).toBe("dog, cow (not in the truth).")
  expect(rows["mean IoU, absent class as 1"]).toMatchObject({ leavesOut: "", trivial: (16 / 18 + 0 + 2) / 4 })
  expect(rows["pixel accuracy (micro F1, micro recall)"]?.trivial).toBe(16 / 18)
  for (const { whatItCounts, trap } of Object.values(rows))
    expect(whatItCounts + (trap ?? "")).toMatch(/^[A-Z0-9].*\.$/)
})

test("images that are all void are left out of means over images, and said", () => {
  const evaluation = evaluationOf([[[0, 0]], [[VOID, 1]]])
  const row = honestyTable(evaluation).find(({ name }) => name === "mean IoU per image")
  expect(row).toMatchObject({ value: 1, leavesOut: "1 image that is all void." })
})

test("without a background class there is no row without it, and the largest class is the trivial one", () => {
  const rows = honestyTable(evaluationOf([[...repeat(3, [2, 2]), [1, 0]]], null))
  expect(rows.map(({ name }) => name)).not.toContain("mean IoU without background")
  expect(rows[0]).toMatchObject({ name: "mean IoU", trivial: 0.75 / 2 })
})

test("nothing scored: every number is null", () => {
  for (const { value, trivial } of honestyTable(evaluationOf([])).filter(({ name }) => !/absent/.test(name))) {
    expect([value, trivial]).toEqual([null, null])
  }
})

// --- against brute force -------------------------------------------------------------------------------------------

const image = fc.array(fc.tuple(fc.constantFrom(0, 1, 2, 3, VOID), fc.nat(3)), { minLength: 1, maxLength: 20 })

test("means over images are those by their definitions on sets of pixels", () => {
  fc.assert(
    fc.property(fc.array(image, { minLength: 1, maxLength: 5 }), (images) => {
      const iou = (pixels: readonly Pixel[], k: number) => {
        const seen = pixels.filter(([t]) => t !== VOID)
        const union = seen.filter(([t, p]) => t === k || p === k).length
        return union > 0 ? seen.filter(([t, p]) => t === k && p === k).length / union : null
      }
      const mean = (values: readonly (number | null)[]) => {
        const known = values.filter((value) => value !== null)
        return known.length > 0 ? known.reduce((sum, value) => sum + value, 0) / known.length : null
      }
      const K = [0, 1, 2, 3]
      const close = (actual: number | null | undefined, expected: number | null) =>
        expected === null ? expect(actual).toBeNull() : expect(actual).toBeCloseTo(expected, 12)
      const actual = numbers(evaluationOf(images))
      close(actual["mean IoU per image"], mean(images.map((pixels) => mean(K.map((k) => iou(pixels, k))))))
      close(
        actual["mean IoU per image, absent class as 1"],
        mean(images.map((pixels) => mean(K.map((k) => iou(pixels, k) ?? 1)))),
      )
      close(actual["mean IoU per class and image"], mean(K.map((k) => mean(images.map((pixels) => iou(pixels, k))))))
      close(actual["mean IoU"], mean(K.map((k) => iou(images.flat(), k))))
    }),
    { numRuns: 100 },
  )
})

test("the first row is the mean IoU of the set, and with one image the means over images are the set's", () => {
  fc.assert(
    fc.property(image, (pixels) => {
      const evaluation = evaluationOf([pixels])
      const { value } = meanIoU(matrixOf(evaluation))
      const rows = numbers(evaluation)
      for (const name of ["mean IoU", "mean IoU per image", "mean IoU per class and image"])
        expect(rows[name]).toBe(value)
    }),
  )
})

test("a perfect prediction has 1 in every mean over images; images without an object are left out of those without background", () => {
  const images = [
    [0, 0, 1],
    [0, 0, 0],
  ].map((labels) => labels.map((label): Pixel => [label, label]))
  const { images: evaluated } = evaluationOf(images)
  expect(evaluated).toHaveLength(2)
  const matrices = images.map((pixels) => matrixOf(evaluationOf([pixels])))
  for (const name of imageMetricNames) expect(imageMetrics[name](matrices).value, name).toBe(1)
  expect(imageMetrics.imageMeanIoUWithoutBackground(matrices).imagesLeftOut).toEqual([1])
})
