// What configurations mean for the training images, and which of them are refused.
import { expect, test } from "vitest"
import { parseLabelMap } from "../data/label-map.ts"
import { buildTransform } from "../data/transforms/index.ts"
import { UserError } from "../errors.ts"
import { parseConfig } from "./config.ts"
import { resolveOpen } from "./prepare.ts"
import { rareClasses, trainTransform } from "./transforms.ts"

const config = (changes: Record<string, unknown> = {}) => resolveOpen(parseConfig({ data: "none", ...changes }), null)
const labelMap = parseLabelMap(["background", "cat", "dog", "rat"], "test")
const census = {
  pixels: Float64Array.of(1000, 30, 20, 0),
  images: Uint32Array.of(5, 3, 2, 0),
  pixelsOfItsImages: new Float64Array(4),
  ignored: 0,
}
const transform = (changes: Record<string, unknown>) => trainTransform(config(changes), labelMap, census)

test("left to itself it is the crop of ever, and nothing else", () => {
  const given = Object.entries(transform({})).filter(([, value]) => value !== undefined)
  expect(Object.fromEntries(given)).toEqual({
    ...{ name: "randomCrop", cropSize: [256, 256], scale: [0.5, 2], scaleStep: 0, fill: true, alignCorners: false },
    ...{ flip: 0.5, verticalFlip: 0, brightness: 0, contrast: 0, saturation: 0, hue: 0, grayscale: 0, blur: 0 },
    ...{ classCrop: 0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
  })
})

test("every option arrives, in a transform that can be built", () => {
  const options = {
    ...{ crop: 65, scale: [0.5, 1], scaleStep: 0.25, fill: false, alignCorners: true, flip: 0.1, verticalFlip: 0.2 },
    ...{ rotation: [-10, 20], rotationProbability: 0.3, padPixel: [1, 2, 3], resizeRange: [60, 90], resizeFactor: 16 },
    ...{ brightness: 0.4, contrast: 0.5, saturation: 0.6, hue: 0.05, grayscale: 0.7, blur: 0.8, blurSigma: [1, 3] },
    ...{ cropClasses: ["rare", "cat"], classCrop: 0.9, normalization: "resnet-v1" },
  }
  const { crop: _, resizeRange: __, resizeFactor: ___, normalization: ____, ...same } = options
  const spec = transform(options)
  expect(spec).toEqual({
    ...same,
    ...{ name: "randomCrop", cropSize: [65, 65], range: { min: 60, max: 90, factor: 16 }, cropClasses: [2, 1] },
    ...{ mean: [123.15 / 255, 115.9 / 255, 103.06 / 255], std: [1 / 255, 1 / 255, 1 / 255] },
  })
  expect(() => buildTransform(spec)).not.toThrow()
  expect(transform({ cropClasses: ["dog"] })).toMatchObject({ classCrop: 0.5, cropClasses: [2] })
})

test("rare classes: fewer pixels than the median of those that occur", () => {
  expect(rareClasses([1000, 30, 20, 0])).toEqual([2])
  expect(rareClasses([9, 1, 8, 2])).toEqual([1, 3])
  expect(rareClasses([5, 5, 5])).toEqual([])
  expect(rareClasses([5])).toEqual([])
})

test("a class that is called rare is meant itself", () => {
  const named = parseLabelMap(["background", "rare", "dog", "rat"], "test")
  expect(trainTransform(config({ cropClasses: ["rare"] }), named, census)).toMatchObject({ cropClasses: [1] })
})

test.each<[string, Record<string, unknown>, string]>([
  ["an unknown class", { cropClasses: ["cow"] }, 'cropClasses: there is no class "cow"; expected rare, or some of'],
  ["a class without pixels", { cropClasses: ["cat", "rat"] }, "cropClasses: No training mask has rat;"],
  [
    "resizeFactor alone",
    { resizeFactor: 16 },
    'Option "resizeFactor" is about Option "resizeRange", which is not given.',
  ],
  ["rotationProbability alone", { rotationProbability: 0.5 }, 'is about Option "rotation"'],
  ["classCrop alone", { classCrop: 0.5 }, 'is about Option "cropClasses"'],
  ["blurSigma alone", { blurSigma: [1, 2] }, 'is about Option "blur"'],
  ["a reversed rotation", { rotation: [10, -10] }, 'Option "rotation" is 10,-10: the smaller comes first.'],
  ["a reversed range", { resizeRange: [513, 400] }, 'Option "resizeRange" is 513,400: the smaller comes first.'],
  ["padPixel with nothing to pad", { padPixel: [0, 0, 0] }, 'Option "padPixel" is what lies beyond pictures'],
  ["classes of mattes", { groundTruth: "alpha", classes: ["cat"] }, 'Option "classes" chooses among labels'],
])("refuses: %s", (_, changes, message) => {
  expect(() => transform(changes)).toThrow(UserError)
  expect(() => transform(changes)).toThrow(message)
})
