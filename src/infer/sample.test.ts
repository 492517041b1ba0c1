import { expect, test } from "vitest"
import { interpolate } from "../nn/index.ts"
import { aten, fromData, Generator, randn, type Tensor, tidy } from "../torch/index.ts"
import { sampleAt, sampleImages } from "./sample.ts"
import { positionIn } from "./windows.ts"

const values = (x: Tensor) => Array.from(x.data() as Float32Array)
const noise = (h: number, w: number) => randn([2, 3, h, w], { generator: new Generator(1) })
const grid = (to: number, from: number, alignCorners = false) =>
  Float64Array.from({ length: to }, (_, i) => positionIn(i, to, from, alignCorners))
const TOLERANCE = 1e-5 // positions are float32 inside grid_sampler and interpolate, and noise is steep
const largest = (x: Tensor) => x.abs().max().item()

test("bilinear between neighbours, columns in either direction", () => {
  const x = fromData(Float32Array.of(1, 2, 4, 8, 16, 32), [1, 1, 2, 3])
  const found = values(sampleAt(x, Float64Array.of(0, 0.25, 1), Float64Array.of(0.5, 1.25, 2)))
  const expected = [1.5, 2.5, 4, 1.5 + 10.5 / 4, 2.5 + 17.5 / 4, 4 + 28 / 4, 12, 20, 32]
  for (const [i, value] of expected.entries()) expect(found[i]).toBeCloseTo(value, 5)
  const backwards = values(sampleAt(x, Float64Array.of(0), Float64Array.of(2, 1.25, 0.5)))
  expect(backwards.map((value) => value.toFixed(5))).toEqual(["4.00000", "2.50000", "1.50000"])
})

test.each([
  [false, 7, 9],
  [false, 40, 33],
  [true, 21, 30],
  [true, 5, 4],
] as const)(
  "over a whole map it is interpolate(alignCorners %s) to %i x %i, and a part is a part of that",
  (alignCorners, h, w) => {
    tidy(() => {
      const x = noise(13, 17)
      const [rows, columns] = [grid(h, 13, alignCorners), grid(w, 17, alignCorners)]
      const expected = interpolate(x, [h, w], { alignCorners })
      expect(values(sampleAt(x, rows, columns, { alignCorners }))).toEqual(values(expected))
      const part = sampleAt(x, rows.subarray(1), columns.subarray(2), { alignCorners })
      expect(largest(part.sub(expected.narrow(2, 1, h - 1).narrow(3, 2, w - 2)))).toBeLessThan(TOLERANCE)
      const mirrored = sampleAt(x, rows, columns.toReversed(), { alignCorners })
      expect(values(mirrored)).toEqual(values(aten.flip(expected, [3])))
    })
  },
)

test("at the pixels themselves it is exact", () => {
  tidy(() => {
    const x = noise(6, 8)
    expect(values(sampleAt(x, grid(6, 6), grid(8, 8)))).toEqual(values(x))
    expect(values(sampleAt(x, grid(6, 6), grid(8, 8).reverse()))).toEqual(values(aten.flip(x, [3])))
  })
})

test("a part of images is what the whole has there", () => {
  tidy(() => {
    const x = noise(9, 11)
    const images = x.data() as Float32Array
    const part = sampleImages(images, [2, 9, 11], Float64Array.of(3, 4, 5), Float64Array.of(7, 6))
    expect(values(part)).toEqual(values(aten.flip(x.narrow(2, 3, 3).narrow(3, 6, 2), [3])))
    const [rows, columns] = [grid(18, 9).subarray(4, 9), grid(5, 11).subarray(1, 3)]
    const between = sampleImages(images, [2, 9, 11], rows, columns)
    const whole = interpolate(x, [18, 5]).narrow(2, 4, 5).narrow(3, 1, 2)
    expect(largest(between.sub(whole))).toBeLessThan(TOLERANCE)
  })
})
