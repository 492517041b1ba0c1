import { readFileSync } from "node:fs"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { UserError } from "../../errors.ts"
import { randomFor } from "../random.ts"
import type { Sample } from "../voc-folder.ts"
import { buildTransform, imagenet, randomCrop, resize, symmetric, toTensorData, whole } from "./index.ts"

const golden = JSON.parse(readFileSync(new URL("../../../tests/data/interpolate.json", import.meta.url), "utf8")) as {
  height: number
  width: number
  image: number[]
  mask: number[]
  resized: { size: [number, number]; image: number[]; mask: number[] }[]
}
const plain = { mean: [0, 0, 0], std: [1, 1, 1] } as const

/** An image that says where each pixel came from: red is 2x, green is 2y; the mask says it too, in cells of 5 pixels. */
const cell = (x: number, y: number) => (Math.floor(x / 5) * 7 + Math.floor(y / 5)) % 250
function coded(width: number, height: number): Sample {
  const image = new Uint8Array(width * height * 3)
  const mask = new Uint8Array(width * height)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      image.set([2 * x, 2 * y, 99], 3 * (y * width + x))
      mask[y * width + x] = cell(x, y)
    }
  }
  return { id: "coded", width, height, image, mask }
}

describe("resize equals PyTorch's interpolate", () => {
  const sample: Sample = {
    id: "golden",
    width: golden.width,
    height: golden.height,
    image: Uint8Array.from(golden.image),
    mask: Uint8Array.from(golden.mask),
  }
  test.each(golden.resized)("to $size", ({ size, image, mask }) => {
    const resized = resize({ size, ...plain })(sample, randomFor(0))
    expect([resized.height, resized.width]).toEqual(size)
    // 1e-5: torch computes the coordinates in float32 (error about 1e-6 at these sizes), we in float64
    for (const [i, v] of resized.image.entries()) expect(Math.abs(v - image[i]!)).toBeLessThan(1e-5)
    expect([...resized.mask]).toEqual(mask)
  })
})

describe("randomCrop", () => {
  const options = fc.record({
    width: fc.integer({ min: 1, max: 120 }),
    height: fc.integer({ min: 1, max: 120 }),
    cropSize: fc.tuple(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 1, max: 90 })),
    min: fc.double({ min: 0.3, max: 1.2, noNaN: true }),
    range: fc.double({ min: 0, max: 1.5, noNaN: true }),
    scaleStep: fc.constantFrom(0, 0.25),
    fill: fc.boolean(),
    seed: fc.nat(),
  })

  test("image and mask stay together under every scale, crop, padding and flip", () => {
    let checked = 0
    fc.assert(
      fc.property(options, ({ width, height, cropSize, min, range, scaleStep, fill, seed }) => {
        const sample = coded(width, height)
        const crop = randomCrop({
          cropSize,
          scale: [min, min + range],
          scaleStep,
          fill,
          flip: 0.5,
          verticalFlip: 0.5,
          ...plain,
        })
        const out = crop(sample, randomFor(seed))
        expect([out.height, out.width]).toEqual(cropSize)
        const plane = cropSize[0] * cropSize[1]
        for (let i = 0; i < plane; i++) {
          if (out.image[2 * plane + i] === 0) {
            expect([out.image[i], out.image[plane + i], out.mask[i]]).toEqual([0, 0, 255]) // padding, in both or in none
            continue
          }
          const x = (out.image[i]! * 255) / 2
          const y = (out.image[plane + i]! * 255) / 2
          // Half way between two pixels rounding may go either way, by the last bit of float32.
          if (Math.abs((x % 1) - 0.5) < 1e-4 || Math.abs((y % 1) - 0.5) < 1e-4) continue
          expect(out.mask[i]).toBe(cell(Math.round(x), Math.round(y)))
          checked++
        }
      }),
      { numRuns: 300 },
    )
    expect(checked).toBeGreaterThan(10_000) // pixels; a single crop may have none, all of them together may not
  })

  test("fill: no padding, and nothing else changes where the picture fills the crop anyway", () => {
    let enlarged = 0
    fc.assert(
      fc.property(options, ({ width, height, cropSize, min, range, scaleStep, seed }) => {
        const [sample, scale] = [coded(width, height), [min, min + range]] as const
        const [padded, filled] = [false, true].map((fill) =>
          randomCrop({ cropSize, scale, scaleStep, fill, ...plain })(sample, randomFor(seed)),
        )
        expect(filled!.mask.includes(255)).toBe(false)
        if (padded!.mask.includes(255)) enlarged++
        else expect(filled).toEqual(padded)
      }),
      { numRuns: 200 },
    )
    expect(enlarged).toBeGreaterThan(20)
  })

  test("a mask never gains a label", () => {
    fc.assert(
      fc.property(options, ({ width, height, cropSize, min, range, seed }) => {
        const sample = coded(width, height)
        const known = new Set([...sample.mask, 255])
        const out = randomCrop({ cropSize, scale: [min, min + range] })(sample, randomFor(seed))
        expect(out.mask.every((label) => known.has(label))).toBe(true)
      }),
      { numRuns: 100 },
    )
  })

  test("without scaling and flips the crop is a piece of the image, and every place is equally likely", () => {
    const sample = coded(12, 11)
    const crop = randomCrop({ cropSize: [10, 10], scale: [1, 1], flip: 0, ...plain })
    const counts = new Map<string, number>()
    for (let i = 0; i < 3000; i++) {
      const { image } = crop(sample, randomFor(1, 0, i))
      const place = `${Math.round((image[0]! * 255) / 2)},${Math.round((image[100]! * 255) / 2)}`
      counts.set(place, (counts.get(place) ?? 0) + 1)
    }
    expect([...counts.keys()].sort()).toEqual(["0,0", "0,1", "1,0", "1,1", "2,0", "2,1"])
    for (const n of counts.values()) expect(Math.abs(n - 500)).toBeLessThan(103) // 5 sigma: sqrt(3000 / 6 * 5 / 6) = 20
  })

  test("pads at the bottom and right only, and a flip carries the padding with it", () => {
    const sample = coded(4, 3)
    const padded = (flip: number, verticalFlip: number) =>
      [...randomCrop({ cropSize: [5, 6], scale: [1, 1], flip, verticalFlip })(sample, randomFor(0)).mask]
        .map((v) => (v === 255 ? "." : "#"))
        .join("")
        .match(/.{6}/g)
    expect(padded(0, 0)).toEqual(["####..", "####..", "####..", "......", "......"])
    expect(padded(1, 0)).toEqual(["..####", "..####", "..####", "......", "......"])
    expect(padded(0, 1)).toEqual(["......", "......", "####..", "####..", "####.."])
  })

  test("flips as often as asked, each by its own probability", () => {
    const sample = coded(8, 8)
    const crop = randomCrop({ cropSize: [8, 8], scale: [1, 1], flip: 0.25, verticalFlip: 0.75, ...plain })
    let [flips, verticalFlips] = [0, 0]
    for (let i = 0; i < 2000; i++) {
      const { image } = crop(sample, randomFor(i))
      if (image[0]! > image[7]!) flips++
      if (image[64]! > image[64 + 56]!) verticalFlips++
    }
    expect(Math.abs(flips - 500)).toBeLessThan(97) // 5 sigma: sqrt(2000 * 0.25 * 0.75) = 19.4
    expect(Math.abs(verticalFlips - 1500)).toBeLessThan(97)
  })

  test("scales by DeepLab's seven factors when the step is 0.25, and by any when it is 0", () => {
    // One row of 400 pixels, 2 grey levels apart every 4: the slope along the crop is 1 / factor.
    const image = Uint8Array.from({ length: 1200 }, (_, i) => Math.floor(i / 3) >> 1)
    const sample: Sample = { id: "", width: 400, height: 1, image, mask: new Uint8Array(400) }
    const factors = (scaleStep: number) => {
      const crop = randomCrop({ cropSize: [1, 150], scale: [0.5, 2], scaleStep, flip: 0, ...plain })
      return Array.from({ length: 200 }, (_, i) => {
        const out = crop(sample, randomFor(3, i))
        return 149 / ((out.image[149]! - out.image[0]!) * 255 * 2)
      })
    }
    const discrete = new Set(factors(0.25).map((f) => Math.round(f * 4) / 4))
    expect([...discrete].sort()).toEqual([0.5, 0.75, 1, 1.25, 1.5, 1.75, 2])
    const any = factors(0)
    expect(Math.min(...any)).toBeLessThan(0.6)
    expect(Math.max(...any)).toBeGreaterThan(1.8)
    expect(new Set(any.map((f) => f.toFixed(2))).size).toBeGreaterThan(80)
  })

  test("turning one flip off changes neither the crops nor the other flip", () => {
    const sample = coded(50, 40)
    const crop = (flip: number, seed: number) =>
      randomCrop({ cropSize: [20, 20], flip, verticalFlip: 0.5, ...plain })(sample, randomFor(seed)).image
    for (let seed = 0; seed < 8; seed++) {
      const [straight, flipped] = [crop(0, seed), crop(1, seed)]
      for (let i = 0; i < 800; i++) expect(flipped[i]).toBeCloseTo(straight[i + 19 - 2 * (i % 20)]!, 6)
    }
  })

  test.each<[string, object, string]>([
    ["no size", { cropSize: [0, 9] }, "cropSize: got 0 x 9; expected height and width in whole pixels."],
    ["a fraction", { cropSize: [9.5, 9] }, "cropSize: got 9.5 x 9"],
    [
      "scale 0",
      { cropSize: [9, 9], scale: [0, 1] },
      "scale: got 0 to 1; expected two factors above 0, the smaller first.",
    ],
    ["scale reversed", { cropSize: [9, 9], scale: [2, 1] }, "scale: got 2 to 1"],
    ["step", { cropSize: [9, 9], scaleStep: -1 }, "scaleStep: got -1"],
    ["flip", { cropSize: [9, 9], flip: 50 }, "flip: got 50; expected a probability from 0 to 1."],
    ["vertical flip", { cropSize: [9, 9], verticalFlip: Number.NaN }, "verticalFlip: got NaN"],
    ["std", { cropSize: [9, 9], std: [1, 0, 1] }, "std: got [1, 0, 1]; expected three numbers above 0"],
    ["mean", { cropSize: [9, 9], mean: [1, 0] }, "mean: got [1, 0]; expected three numbers"],
  ])("refuses: %s", (_, options, message) => {
    expect(() => randomCrop(options as never)).toThrow(UserError)
    expect(() => randomCrop(options as never)).toThrow(message)
  })
})

describe("normalisation", () => {
  const image = { width: 2, height: 1, data: Uint8Array.of(0, 255, 51, 255, 0, 102) }

  test("toTensorData: channels apart, (value / 255 - mean) / std", () => {
    expect([...toTensorData(image, symmetric)].map((v) => Number(v.toFixed(6)))).toEqual([-1, 1, 1, -1, -0.6, -0.2])
    const red = [0, 1].map((v) => (v - imagenet.mean[0]) / imagenet.std[0])
    for (const [i, v] of [...toTensorData(image).subarray(0, 2)].entries()) expect(v).toBeCloseTo(red[i]!, 6)
  })
  test("the crop normalises as toTensorData does, and the mean pixel becomes 0", () => {
    const sample = { id: "", ...image, image: Uint8Array.of(124, 116, 104, 0, 0, 0), mask: new Uint8Array(2) }
    const crop = randomCrop({ cropSize: [1, 2], scale: [1, 1], flip: 0 })(sample, randomFor(0))
    const direct = toTensorData({ ...image, data: sample.image })
    for (const [i, v] of crop.image.entries()) expect(v).toBeCloseTo(direct[i]!, 6)
    for (const c of [0, 2, 4]) expect(Math.abs(crop.image[c]!)).toBeLessThan(0.01) // 124, 116, 104 is ImageNet's mean
  })
})

describe("buildTransform", () => {
  test("makes each transform of the registry from plain data", () => {
    const sample = coded(6, 4)
    const sizes = [
      buildTransform({ name: "randomCrop", cropSize: [3, 3] }),
      buildTransform({ name: "resize", size: [2, 5] }),
      buildTransform({ name: "whole", ...symmetric }),
    ].map((transform) => {
      const { height, width, image, mask } = transform(sample, randomFor(0))
      expect([image.length, mask.length]).toEqual([3 * height * width, height * width])
      return [height, width]
    })
    expect(sizes).toEqual([
      [3, 3],
      [2, 5],
      [4, 6],
    ])
    expect(whole()(sample, randomFor(0)).mask).toEqual(sample.mask)
  })
})
