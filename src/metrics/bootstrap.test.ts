import { expect, test } from "vitest"
import { bootstrapInterval, bootstrapIntervals, commonImages, pairedBootstrap } from "./bootstrap.ts"
import { ConfusionMatrix } from "./confusion-matrix.ts"
import { type Evaluation, Evaluator } from "./evaluation.ts"
import { meanIoU, pixelAccuracy } from "./scores.ts"

/** An image of 100 pixels of class 0, of which so many are right; the others are taken for class 1. */
const image = (right: number) =>
  new ConfusionMatrix(2).addCells([
    [0, 0, right],
    [0, 1, 100 - right],
  ])
const images = [90, 40, 70].map(image)

/** Percentile of all 27 ways to draw 3 of 3 images, each as likely. */
const draws = (statistic: (drawn: number[]) => number) =>
  [0, 1, 2].flatMap((i) => [0, 1, 2].flatMap((j) => [0, 1, 2].map((k) => statistic([i, j, k])))).sort((a, b) => a - b)

test("the interval is that of all resamples there are", () => {
  const all = draws((drawn) => drawn.reduce((sum, i) => sum + [90, 40, 70][i]!, 0) / 300)
  // 20 % to 80 %: in the middle of steps of the 27, so that chance does not decide
  const { value, low, high } = bootstrapInterval(images, pixelAccuracy, { samples: 20_000, level: 0.6 })
  expect(value).toBeCloseTo(2 / 3, 14)
  expect(low).toBeCloseTo(all[5]!, 12)
  expect(high).toBeCloseTo(all[21]!, 12)
})

test("with many images it is the normal distribution's", () => {
  const rights = Array.from({ length: 400 }, (_, i) => (i * 37) % 101)
  const { value, low, high } = bootstrapInterval(rights.map(image), pixelAccuracy, { samples: 4000 })
  const mean = rights.reduce((sum, right) => sum + right, 0) / 400
  const deviation = Math.sqrt(rights.reduce((sum, right) => sum + (right - mean) ** 2, 0) / 400)
  const reach = (1.96 * deviation) / Math.sqrt(400) / 100
  expect(value).toBeCloseTo(mean / 100, 12)
  expect(Math.abs(low! - (value! - reach)) / reach).toBeLessThan(0.1)
  expect(Math.abs(high! - (value! + reach)) / reach).toBeLessThan(0.1)
})

test("scores of a resample come from its summed matrix, not from a mean over images", () => {
  // One large image all wrong, one small all right: the mean of two scores would lie around 1/2.
  const unequal = [new ConfusionMatrix(2).addCells([[0, 1, 9900]]), image(100)]
  expect(bootstrapInterval(unequal, pixelAccuracy, { level: 0.1 }).high).toBe(0.01)
})

test("equal seeds, equal intervals; several metrics at once are each as alone", () => {
  const options = { samples: 200, seed: 3 }
  const one = bootstrapInterval(images, meanIoU, options)
  expect(bootstrapInterval(images, meanIoU, options)).toEqual(one)
  expect(bootstrapIntervals(images, { pixelAccuracy, meanIoU }, options).meanIoU).toEqual(one)
  const many = Array.from({ length: 50 }, (_, i) => image(i))
  expect(bootstrapInterval(many, meanIoU, { seed: 4 })).not.toEqual(bootstrapInterval(many, meanIoU, { seed: 3 }))
})

test("one image has no spread, none has no interval; what is undefined is left out", () => {
  expect(bootstrapInterval([image(30)], pixelAccuracy)).toEqual({ value: 0.3, low: 0.3, high: 0.3 })
  expect(bootstrapInterval([], pixelAccuracy)).toEqual({ value: null, low: null, high: null })
  const onlyVoid = new ConfusionMatrix(2)
  expect(bootstrapInterval([onlyVoid], pixelAccuracy)).toEqual({ value: null, low: null, high: null })
  expect(bootstrapInterval([onlyVoid, image(30)], pixelAccuracy)).toEqual({ value: 0.3, low: 0.3, high: 0.3 })
})

test("paired: the images drawn are the same for both", () => {
  const many = Array.from({ length: 60 }, (_, i) => i)
  const worse = many.map((right) => image(right))
  const better = many.map((right) => image(right + 1)) // by one pixel, in every image
  const { difference, low, high, probability } = pairedBootstrap(better, worse, pixelAccuracy)
  for (const value of [difference, low, high]) expect(value).toBeCloseTo(0.01, 12)
  expect(probability).toBe(1)
  expect(pairedBootstrap(worse, better, pixelAccuracy).probability).toBe(0)
  const spread = bootstrapInterval(worse, pixelAccuracy)
  expect(spread.high! - spread.low!).toBeGreaterThan(0.05) // unpaired it would drown
  expect(pairedBootstrap(worse, worse, pixelAccuracy)).toEqual({ difference: 0, low: 0, high: 0, probability: 0.5 })
  expect(pairedBootstrap([], [], pixelAccuracy)).toEqual({ difference: null, low: null, high: null, probability: null })
  expect(() => pairedBootstrap(worse, many.slice(1).map(image), pixelAccuracy)).toThrow("60 images and 59")
})

test("paired: the interval is that of all resamples there are", () => {
  const [a, b] = [
    [90, 40, 70],
    [70, 45, 61],
  ]
  const all = draws((drawn) => drawn.reduce((sum, i) => sum + a![i]! - b![i]!, 0) / 300)
  const result = pairedBootstrap(a!.map(image), b!.map(image), pixelAccuracy, { samples: 20_000, level: 0.6 })
  expect(result.difference).toBeCloseTo(0.08, 12)
  expect(result.low).toBeCloseTo(all[5]!, 12)
  expect(result.high).toBeCloseTo(all[21]!, 12)
  expect(result.probability).toBeCloseTo(all.filter((value) => value > 0).length / 27, 2)
})

test("images in common, by name", () => {
  const evaluation = (ids: string[], classes = ["a", "b"]): Evaluation => {
    const evaluator = new Evaluator({ classes, background: null, boundary: false })
    for (const id of ids) {
      evaluator.add({
        id,
        width: 2,
        height: 1,
        truth: Uint8Array.of(0, 1),
        prediction: Uint8Array.of(0, Number(id) % 2),
      })
    }
    return evaluator.finish()
  }
  const common = commonImages(evaluation(["1", "2", "3"]), evaluation(["4", "3", "2"]))
  expect(common).toMatchObject({ ids: ["2", "3"], onlyA: ["1"], onlyB: ["4"] })
  expect(common.a).toEqual(common.b)
  expect(common.b.map((matrix) => pixelAccuracy(matrix).value)).toEqual([0.5, 1])
  expect(() => commonImages(evaluation([]), evaluation([], ["a", "c"]))).toThrow("the classes differ: a, b, and a, c")
})
