import { readFileSync } from "node:fs"
import fc from "fast-check"
import { expect, test } from "vitest"
import { randomFor } from "../random.ts"
import type { Sample } from "../voc-folder.ts"
import { type RandomCropOptions, randomCrop, resize } from "./index.ts"
import { Mapping, sampleView } from "./sampling.ts"

type Golden = { size: [number, number]; image: number[]; alpha: number[]; mask: number[] }
const golden = JSON.parse(readFileSync(new URL("../../../tests/data/transforms.json", import.meta.url), "utf8")) as {
  height: number
  width: number
  image: number[]
  mask: number[]
  alpha: number[]
  aligned: Golden[]
  turned: (Golden & { degrees: number; alignCorners: boolean })[]
}
const plain = { mean: [0, 0, 0], std: [1, 1, 1] } as const
const sample: Sample = {
  id: "golden",
  width: golden.width,
  height: golden.height,
  image: Uint8Array.from(golden.image),
  mask: Uint8Array.from(golden.mask),
  alpha: Float32Array.from(golden.alpha),
}
const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  expect(a.length).toBe(b.length)
  return Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0)
}

// 1e-5: the golden values are rounded to 7 digits, and those of interpolate come from float32 coordinates
test.each(golden.aligned)(
  "aligned corners: $size equals PyTorch's interpolate, and TensorFlow's nearest",
  (expected) => {
    const out = resize({ size: expected.size, alignCorners: true, ...plain })(sample, randomFor(0))
    expect(largestDifference(out.image, expected.image)).toBeLessThan(1e-5)
    expect(largestDifference(out.alpha!, expected.alpha)).toBeLessThan(1e-5)
    expect([...out.mask]).toEqual(expected.mask)
  },
)

test("aligned corners: half way between two pixels is the later one, as TensorFlow rounds", () => {
  const ramp = { id: "", width: 3, height: 1, image: new Uint8Array(9), mask: Uint8Array.of(0, 1, 2) }
  const to = (width: number) => [...resize({ size: [1, width], alignCorners: true })(ramp, randomFor(0)).mask]
  expect(to(5)).toEqual([0, 1, 1, 2, 2]) // places 0, 0.5, 1, 1.5, 2
  expect(to(9)).toEqual([0, 0, 1, 1, 1, 1, 2, 2, 2]) // steps of a quarter
  expect(to(1)).toEqual([0])
})

test.each(golden.turned)("turned by $degrees to $size, aligned $alignCorners: equals grid_sample", (expected) => {
  const { size, degrees, alignCorners } = expected
  const plane = size[0] * size[1]
  const out = { image: new Float32Array(3 * plane), mask: new Uint8Array(plane), alpha: new Float32Array(plane) }
  const view = { scaled: size, size, top: 0, left: 0, isFlipped: false, isFlippedVertically: false }
  const unit = { gain: [1 / 255, 1 / 255, 1 / 255], offset: [0, 0, 0] }
  sampleView(sample, { ...view, degrees, alignCorners }, unit, [-1, -1, -1], out) // the golden values' outside is -1
  expect(expected.mask).toContain(255)
  expect(largestDifference(out.image, expected.image)).toBeLessThan(1e-5)
  expect(largestDifference(out.alpha, expected.alpha)).toBeLessThan(1e-5)
  expect([...out.mask]).toEqual(expected.mask)
})

test("turned by next to nothing is not turned", () => {
  const crop = (degrees: number, alignCorners: boolean) =>
    randomCrop({
      cropSize: [13, 12],
      scale: [1.6, 1.6], // 11x8: no pixel is half way between two
      flip: 1,
      alignCorners,
      rotation: [degrees, degrees],
      ...plain,
    })(sample, randomFor(1))
  for (const alignCorners of [false, true]) {
    const [turned, upright] = [crop(1e-9, alignCorners), crop(0, alignCorners)]
    expect(largestDifference(turned.image, upright.image)).toBeLessThan(1e-6)
    expect(turned.mask).toEqual(upright.mask)
  }
})

// An image that says where each pixel came from: red is 2x, green is 2y; alpha is x / 120. The mask says it too.
const label = (x: number, y: number) => (x * 7 + y * 13) % 250
function coded(width: number, height: number): Sample {
  const image = new Uint8Array(width * height * 3)
  const mask = new Uint8Array(width * height)
  const alpha = new Float32Array(width * height)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      image.set([2 * x, 2 * y, 99], 3 * (y * width + x))
      mask[y * width + x] = label(x, y)
      alpha[y * width + x] = x / 120
    }
  }
  return { id: "coded", width, height, image, mask, alpha }
}

const interval = (min: number, max: number) =>
  fc
    .tuple(fc.double({ min, max, noNaN: true }), fc.double({ min, max, noNaN: true }))
    .map(([a, b]): [number, number] => [Math.min(a, b), Math.max(a, b)])
const geometry = {
  cropSize: fc.tuple(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: 70 })),
  range: fc.option(
    fc.record({
      min: fc.integer({ min: 8, max: 90 }),
      max: fc.integer({ min: 90, max: 120 }),
      factor: fc.option(fc.integer({ min: 1, max: 16 }), { nil: undefined }),
    }),
    { nil: undefined },
  ),
  scale: interval(0.3, 2.5),
  scaleStep: fc.constantFrom(0, 0.25),
  fill: fc.boolean(),
  alignCorners: fc.boolean(),
  rotation: interval(-180, 180),
  rotationProbability: fc.constantFrom(0, 0.5, 1),
  classCrop: fc.constantFrom(0, 1),
  cropClasses: fc.array(fc.integer({ min: 0, max: 249 }), { minLength: 1, maxLength: 3 }),
  flip: fc.constantFrom(0, 0.5, 1),
  verticalFlip: fc.constantFrom(0, 0.5, 1),
}
const compositions = fc.record({
  width: fc.integer({ min: 1, max: 120 }),
  height: fc.integer({ min: 1, max: 120 }),
  options: fc.record(geometry),
  seed: fc.nat(),
})

test("image, mask and alpha stay together under every composition of range, scale, rotation, padding, crop and flips", () => {
  let [checked, padded] = [0, 0]
  fc.assert(
    fc.property(compositions, ({ width, height, options, seed }) => {
      const out = randomCrop({ ...options, ...plain })(coded(width, height), randomFor(seed))
      const plane = out.height * out.width
      expect([out.height, out.width]).toEqual(options.cropSize)
      for (let i = 0; i < plane; i++) {
        const [red, green, blue] = [out.image[i]!, out.image[plane + i]!, out.image[2 * plane + i]!]
        const [mask, alpha] = [out.mask[i]!, out.alpha![i]!]
        if (blue === 0 || mask === 255) {
          padded++
          if (red !== 0 || green !== 0 || blue !== 0 || mask !== 255 || alpha !== 255) throw new Error("half padding")
          continue
        }
        const [x, y] = [(red * 255) / 2, (green * 255) / 2]
        if (Math.abs(alpha - x / 120) > 1e-5) throw new Error(`alpha ${alpha} at x ${x}`)
        // Half way between two pixels rounding may go either way, by the last bit of float32.
        if (Math.abs((x % 1) - 0.5) < 1e-4 || Math.abs((y % 1) - 0.5) < 1e-4) continue
        if (mask !== label(Math.round(x), Math.round(y))) throw new Error(`label ${mask} at ${x}, ${y}`)
        checked++
      }
    }),
    { numRuns: 400 },
  )
  expect(checked).toBeGreaterThan(100_000)
  expect(padded).toBeGreaterThan(10_000)
})

test("colours change neither mask nor alpha nor padding; padding is the same in all", () => {
  fc.assert(
    fc.property(compositions, ({ width, height, options, seed }) => {
      const sample = coded(width, height)
      const colored: Partial<RandomCropOptions> = {
        ...{ brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.2, grayscale: 0.5 },
        ...{ blur: 0.5, blurSigma: [0.3, 2], padPixel: [10, 20, 30] },
      }
      const before = randomCrop({ ...options, padPixel: [10, 20, 30] })(sample, randomFor(seed))
      const after = randomCrop({ ...options, ...colored })(sample, randomFor(seed))
      expect(after.mask).toEqual(before.mask)
      expect(after.alpha).toEqual(before.alpha)
      const plane = after.mask.length
      for (let i = 0; i < 3 * plane; i++) {
        if (before.mask[i % plane] === 255 && after.image[i] !== before.image[i]) throw new Error("padding has changed")
      }
    }),
    { numRuns: 100 },
  )
})

test("every value is written, whatever the arrays held", () => {
  fc.assert(
    fc.property(compositions, ({ width, height, options, seed }) => {
      const sample = coded(width, height)
      const crop = randomCrop({ ...options, brightness: 0.3 })
      const used = crop(sample, randomFor(seed), (h, w) => ({
        image: new Float32Array(3 * h * w).fill(Number.NaN),
        mask: new Uint8Array(h * w).fill(77),
        alpha: new Float32Array(h * w).fill(Number.NaN),
      }))
      expect(used).toEqual(crop(sample, randomFor(seed)))
    }),
    { numRuns: 100 },
  )
})

test("a mask never gains a label", () => {
  fc.assert(
    fc.property(compositions, ({ width, height, options, seed }) => {
      const sample = coded(width, height)
      const known = new Set([...sample.mask, 255])
      expect(randomCrop(options)(sample, randomFor(seed)).mask.every((label) => known.has(label))).toBe(true)
    }),
    { numRuns: 100 },
  )
})

test("flipping twice is the identity, with scaling, rotation and padding", () => {
  fc.assert(
    fc.property(compositions, ({ width, height, options, seed }) => {
      const sample = coded(width, height)
      const crop = (flip: number, verticalFlip: number) =>
        randomCrop({ ...options, flip, verticalFlip, ...plain })(sample, randomFor(seed))
      const straight = crop(0, 0)
      const flipped = crop(1, 1)
      const reversed = (values: Float32Array | Uint8Array) => values.toReversed() // both flips turn a plane round
      expect(reversed(flipped.mask)).toEqual(straight.mask)
      const plane = straight.mask.length
      for (let c = 0; c < 3; c++) {
        const [from, to] = [c * plane, (c + 1) * plane]
        expect(reversed(flipped.image.subarray(from, to))).toEqual(straight.image.subarray(from, to))
      }
    }),
    { numRuns: 100 },
  )
})

test("the mapping leads back: each pixel that is found from the input is nearest to it, unless the picture was reduced", () => {
  const map = new Mapping({ height: 20, width: 30 }, { scaled: [41, 66], alignCorners: false, degrees: 25 })
  let seen = 0
  for (let y = 0; y < 20; y++) {
    for (let x = 0; x < 30; x++) {
      const [row, column] = map.fromInput(y, x)
      if (!map.toInput(row, column)) continue
      seen++
      expect(map.nearest()).toBe(y * 30 + x)
    }
  }
  expect(seen).toBeGreaterThan(400)
})
