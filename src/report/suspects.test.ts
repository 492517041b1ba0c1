import { expect, test } from "vitest"
import { ShapeError } from "../torch/index.ts"
import { classifyErrors } from "./errors.ts"
import { type Box, bySuspicion, cropAround, type Suspect, suspectedLabelErrors } from "./suspects.ts"

const [width, height] = [60, 40]

/** A scene of background that both agree on, with 0.99 confidence; `put` writes a value into a box of one of its maps. */
function scene() {
  const image = {
    id: "2007_000032",
    width,
    height,
    truth: new Uint8Array(width * height),
    prediction: new Uint8Array(width * height),
    confidence: new Float32Array(width * height).fill(0.99),
  }
  const put = (map: Uint8Array | Float32Array, [x, y, w, h]: Box, value: number) => {
    for (let row = y; row < y + h; row++) map.fill(value, row * width + x, row * width + x + w)
  }
  return { image, put }
}

const close = (value: number) => expect.closeTo(value, 5)

test("an unlabelled object, a swapped one, an invented one: each is found with its classes, its box and its size", () => {
  const { image, put } = scene()
  put(image.prediction, [5, 28, 10, 8], 1) // nobody labelled it
  put(image.truth, [30, 5, 8, 8], 2) // labelled 2, and it is a 3
  put(image.prediction, [30, 5, 8, 8], 3)
  put(image.confidence, [30, 5, 8, 8], 0.95)
  put(image.truth, [10, 5, 6, 6], 4) // labelled, and nothing is there
  expect(suspectedLabelErrors(image)).toEqual([
    { id: "2007_000032", truth: 0, prediction: 1, box: [5, 28, 10, 8], pixels: 80, confidence: close(0.99) },
    { id: "2007_000032", truth: 2, prediction: 3, box: [30, 5, 8, 8], pixels: 64, confidence: close(0.95) },
    { id: "2007_000032", truth: 4, prediction: 0, box: [10, 5, 6, 6], pixels: 36, confidence: close(0.99) },
  ])
})

test("regions of different classes that touch are two; pixels that touch at a corner are one", () => {
  const { image, put } = scene()
  put(image.prediction, [5, 5, 6, 6], 1)
  put(image.prediction, [11, 5, 6, 6], 2)
  put(image.prediction, [30, 10, 5, 5], 1)
  put(image.prediction, [35, 15, 5, 5], 1)
  const found = suspectedLabelErrors(image).map(({ prediction, box, pixels }) => ({ prediction, box, pixels }))
  expect(found).toHaveLength(3)
  expect(found).toContainEqual({ prediction: 1, box: [5, 5, 6, 6], pixels: 36 })
  expect(found).toContainEqual({ prediction: 2, box: [11, 5, 6, 6], pixels: 36 })
  expect(found).toContainEqual({ prediction: 1, box: [30, 10, 10, 10], pixels: 50 })
})

test("not suspicious: what is unsure on average, small, along a border, void, or right", () => {
  const { image, put } = scene()
  put(image.prediction, [5, 5, 10, 10], 1)
  put(image.confidence, [5, 5, 10, 10], 0.85)
  put(image.confidence, [5, 5, 10, 4], 0.7) // mean 0.79
  put(image.prediction, [30, 5, 3, 5], 1) // 15 pixels
  put(image.truth, [20, 20, 15, 15], 2)
  put(image.prediction, [19, 19, 17, 17], 2) // its border is one pixel off
  put(image.truth, [40, 20, 10, 10], 255)
  put(image.prediction, [40, 20, 10, 10], 3)
  expect(suspectedLabelErrors(image)).toEqual([])
  expect(suspectedLabelErrors(image, { minConfidence: 0.78 })).toHaveLength(1)
  expect(suspectedLabelErrors(image, { minPixels: 15 })).toHaveLength(1)
  expect(suspectedLabelErrors(image, { boundaryWidth: 0 }).map(({ pixels }) => pixels)).toEqual([64])
})

test("the least size follows the image: a thousandth of it", () => {
  const image = {
    id: "large",
    width: 200,
    height: 200,
    truth: new Uint8Array(40_000),
    prediction: new Uint8Array(40_000),
    confidence: new Float32Array(40_000).fill(1),
  }
  image.prediction.fill(1, 1000, 1039)
  expect(suspectedLabelErrors(image)).toEqual([])
  image.prediction.fill(1, 1000, 1040)
  expect(suspectedLabelErrors(image)).toHaveLength(1)
})

test("any pair of the 254 possible classes comes out as it went in", () => {
  const { image, put } = scene()
  put(image.truth, [0, 0, 60, 20], 253)
  put(image.prediction, [0, 0, 60, 20], 252)
  expect(suspectedLabelErrors(image)).toMatchObject([{ truth: 253, prediction: 252, pixels: 1200 }])
})

test("with the kinds of errors given, the same comes out", () => {
  const { image, put } = scene()
  put(image.prediction, [5, 5, 10, 8], 1)
  put(image.truth, [30, 5, 8, 8], 2)
  put(image.prediction, [30, 5, 8, 8], 3)
  put(image.truth, [10, 25, 6, 6], 4)
  const kinds = classifyErrors(image.prediction, image.truth, image, { background: 0 })
  expect(suspectedLabelErrors(image, { kinds })).toEqual(suspectedLabelErrors(image))
  expect(suspectedLabelErrors(image, { kinds })).toHaveLength(3)
})

test("ranking: more pixels at equal confidence, more confidence at equal size", () => {
  const suspect = (pixels: number, confidence: number) =>
    ({ id: "", truth: 0, prediction: 1, box: [0, 0, 1, 1], pixels, confidence }) as Suspect
  const ranked = [suspect(50, 0.95), suspect(100, 0.95), suspect(50, 0.99)].sort(bySuspicion)
  expect(ranked.map(({ pixels, confidence }) => [pixels, confidence])).toEqual([
    [100, 0.95],
    [50, 0.99],
    [50, 0.95],
  ])
})

test("a crop shows the surroundings and stays inside the image", () => {
  expect(cropAround([100, 100, 20, 10], { width: 500, height: 375 })).toEqual([68, 68, 84, 74])
  expect(cropAround([100, 100, 200, 10], { width: 500, height: 375 })).toEqual([0, 0, 400, 210])
  expect(cropAround([490, 2, 10, 10], { width: 500, height: 375 })).toEqual([458, 0, 42, 44])
})

test("sizes that do not fit are named", () => {
  const { image } = scene()
  expect(() => suspectedLabelErrors({ ...image, confidence: new Float32Array(3) })).toThrow(
    "suspectedLabelErrors: there are 3 confidences; expected 2400, one for each label.",
  )
  expect(() => suspectedLabelErrors({ ...image, prediction: new Uint8Array(3) })).toThrow(ShapeError)
})
