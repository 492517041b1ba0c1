import { readFileSync } from "node:fs"
import { describe, expect, test } from "vitest"
import { UserError } from "../../errors.ts"
import { randomFor } from "../random.ts"
import { adjustBrightness, adjustContrast, adjustHue, adjustSaturation, colorJitter } from "./color-jitter.ts"
import { blur, gaussianBlur } from "./gaussian-blur.ts"
import { grayscale } from "./grayscale.ts"
import { imagenet, randomCrop } from "./index.ts"
import type { Picture } from "./picture.ts"

type Golden = { by: number; image: number[] }
const golden = JSON.parse(readFileSync(new URL("../../../tests/data/transforms.json", import.meta.url), "utf8")) as {
  height: number
  width: number
  image: number[]
  photometric: Record<"brightness" | "contrast" | "saturation" | "hue" | "grayscale" | "blur", Golden[]>
}
const { height, width } = golden
const plane = height * width

/** The golden image as a picture, the pixels of which are those at `from` to `to` in each row. */
function picture(from = 0, to = width): Picture {
  const data = new Float32Array(3 * plane)
  for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) data[c * plane + i] = golden.image[3 * i + c]! / 255
  const spans = { from: new Int32Array(height).fill(from), to: new Int32Array(height).fill(to) }
  return { height, width, data, spans }
}

describe("equal torchvision's", () => {
  const operations = {
    brightness: adjustBrightness,
    contrast: adjustContrast,
    saturation: adjustSaturation,
    hue: adjustHue,
    grayscale: (made: Picture) => grayscale({ grayscale: 1 })?.(made, randomFor(0)),
    blur,
  }
  const cases = Object.entries(golden.photometric).flatMap(([name, list]) => list.map((one) => ({ name, ...one })))
  test.each(cases)("$name $by", ({ name, by, image }) => {
    const made = picture()
    operations[name as keyof typeof operations](made, by)
    // 2e-6: torchvision reckons in float32 (error about 6e-7 after several operations), the golden values have 7 digits
    for (const [i, value] of made.data.entries()) expect(Math.abs(value - image[i]!)).toBeLessThan(2e-6)
  })
})

describe("padding", () => {
  test.each([
    ["contrast", (p: Picture) => adjustContrast(p, 0.2)],
    ["blur", (p: Picture) => blur(p, 1.5)],
  ])("neither changes nor counts: %s", (_, change) => {
    const [clean, dirty] = [picture(1, 4), picture(1, 4)]
    for (let i = 0; i < 3 * plane; i++) if (i % width === 0 || i % width === 4) dirty.data[i] = 1000
    change(clean)
    change(dirty)
    for (let i = 0; i < 3 * plane; i++) {
      const isPadding = i % width === 0 || i % width === 4
      expect(dirty.data[i]).toBe(isPadding ? 1000 : clean.data[i])
    }
  })
  test("a picture of one pixel, and one of none", () => {
    const one = picture(2, 3)
    blur(one, 3)
    expect(one.data[0]).toBe(picture().data[0])
    for (const change of [adjustContrast, adjustHue, blur]) {
      const none = picture(0, 0)
      change(none, 0.5)
      expect(none.data).toEqual(picture().data)
    }
  })
})

describe("colour jitter", () => {
  const jittered = (options: object, seed: number) => {
    const made = picture()
    colorJitter(options)?.(made, randomFor(seed))
    return made.data
  }
  test("is nothing when nothing is asked for", () => {
    expect(colorJitter({})).toBeUndefined()
    expect(grayscale({})).toBeUndefined()
    expect(gaussianBlur({ blurSigma: [1, 2] })).toBeUndefined()
  })
  test("draws factors evenly from 1 - b to 1 + b, and never below 0", () => {
    const one: Picture = { height: 1, width: 1, data: Float32Array.of(0.2, 0.2, 0.2), spans: spansOf(1) }
    const factors = Array.from({ length: 2000 }, (_, seed) => {
      one.data.fill(0.2)
      colorJitter({ brightness: 0.5 })?.(one, randomFor(seed))
      return one.data[0]! / 0.2
    })
    expect(Math.min(...factors)).toBeGreaterThanOrEqual(0.5)
    expect(Math.max(...factors)).toBeLessThan(1.5)
    const mean = factors.reduce((a, b) => a + b) / factors.length
    expect(Math.abs(mean - 1)).toBeLessThan(0.033) // 5 sigma: 1 / sqrt(12 * 2000) = 0.0065
    for (let seed = 0; seed < 100; seed++) {
      one.data.fill(0.2)
      colorJitter({ brightness: 3 })?.(one, randomFor(seed))
      expect(one.data[0]).toBeGreaterThanOrEqual(0)
    }
  })
  test("one strength changes nothing about the others' factors", () => {
    for (let seed = 0; seed < 20; seed++) {
      const hue = jittered({ hue: 0.3 }, seed)
      const both = jittered({ hue: 0.3, contrast: 1e-9 }, seed)
      for (const [i, value] of both.entries()) expect(value).toBeCloseTo(hue[i]!, 6)
    }
  })
  test("the order varies", () => {
    const made = Array.from({ length: 40 }, (_, seed) => {
      const sameFactors = { ...randomFor(seed), uniform: (low = 0, high = 1) => low + (high - low) * 0.9 }
      const changed = picture()
      colorJitter({ brightness: 1, contrast: 1 })?.(changed, sameFactors)
      return changed.data.join()
    })
    expect(new Set(made).size).toBe(2) // brightness first, or contrast first
  })
})

test("grey and blur come as often as asked", () => {
  let [greys, blurs] = [0, 0]
  for (let seed = 0; seed < 2000; seed++) {
    const grey = picture()
    grayscale({ grayscale: 0.2 })?.(grey, randomFor(seed))
    if (grey.data[0] === grey.data[plane]) greys++
    const blurred = picture()
    gaussianBlur({ blur: 0.7 })?.(blurred, randomFor(seed))
    if (blurred.data[1] !== picture().data[1]) blurs++
  }
  expect(Math.abs(greys - 400)).toBeLessThan(90) // 5 sigma: sqrt(2000 * 0.2 * 0.8) = 17.9
  // A sigma below about 0.17 leaves the neighbours less than float32 tells: 4 % of 0.1 to 2
  expect(Math.abs(blurs - 1400 * 0.965)).toBeLessThan(130)
})

test("after the colours comes the normalisation, and what lies beyond the picture stays its mean", () => {
  const sample = { id: "", width: 2, height: 1, image: Uint8Array.of(124, 116, 104, 0, 0, 0), mask: new Uint8Array(2) }
  const crop = randomCrop({ cropSize: [2, 3], scale: [1, 1], flip: 0, grayscale: 1 })(sample, randomFor(0))
  const grey = (0.2989 * 124 + 0.587 * 116 + 0.114 * 104) / 255
  for (let c = 0; c < 3; c++) {
    expect(crop.image[6 * c]).toBeCloseTo((grey - imagenet.mean[c]!) / imagenet.std[c]!, 5)
    expect(crop.image[6 * c + 1]).toBeCloseTo(-imagenet.mean[c]! / imagenet.std[c]!, 5)
    expect([...crop.image.subarray(6 * c + 2, 6 * c + 6)]).toEqual([0, 0, 0, 0])
  }
})

test.each<[string, () => unknown, string]>([
  ["brightness", () => colorJitter({ brightness: -1 }), "brightness: got -1; expected 0 or more"],
  ["hue", () => colorJitter({ hue: 0.6 }), "hue: got 0.6; expected 0 to 0.5"],
  ["grayscale", () => grayscale({ grayscale: 2 }), "grayscale: got 2; expected a probability"],
  ["blur", () => gaussianBlur({ blur: -1 }), "blur: got -1; expected a probability"],
  ["sigma", () => gaussianBlur({ blurSigma: [2, 1] }), "blurSigma: got 2 to 1; expected two numbers"],
])("refuses: %s", (_, make, message) => {
  expect(make).toThrow(UserError)
  expect(make).toThrow(message)
})

function spansOf(count: number): Picture["spans"] {
  return { from: new Int32Array(count), to: new Int32Array(count).fill(count) }
}
