import { expect, test } from "vitest"
import { classWeightsOf } from "./class-weights.ts"

// Three classes that occur, one that does not. Of four images of 100 pixels: a in all, b in two, c in one.
const counts = { pixels: [300, 80, 0, 20], pixelsOfItsImages: [400, 200, 0, 100] }
const names = ["a", "b", "never", "c"]
const of = (spec: Parameters<typeof classWeightsOf>[0], beta?: number) =>
  classWeightsOf(spec, counts, names, beta === undefined ? {} : { beta })

const expectClose = (got: number[] | null, expected: number[]) => {
  expect(got).toHaveLength(expected.length)
  for (const [k, value] of expected.entries()) expect(got![k]).toBeCloseTo(value, 12)
}

test("inverse: pixels times weight are the same for all classes that occur", () => {
  expectClose(of("inverse"), [400 / 900, 400 / 240, 1, 400 / 60])
})

test("median: shares among the images of each class: 0.75, 0.4, 0.2, of which 0.4 is in the middle", () => {
  expectClose(of("median"), [0.4 / 0.75, 1, 1, 2])
})

test("median of an even number of classes is between the two", () => {
  const two = classWeightsOf("median", { pixels: [60, 20], pixelsOfItsImages: [100, 100] }, ["a", "b"])
  expectClose(two, [0.4 / 0.6, 2])
})

test("enet: 1 / log(1.02 + share), at most 50.5", () => {
  expectClose(of("enet"), [1 / Math.log(1.77), 1 / Math.log(1.22), 1, 1 / Math.log(1.07)])
})

test("effective: as (1 - beta^n) makes them, with a mean of 1 over the classes that occur", () => {
  const raw = [300, 80, 20].map((n) => 1 / (1 - 0.99 ** n))
  const mean = raw.reduce((sum, w) => sum + w, 0) / 3
  expectClose(of("effective", 0.99), [raw[0]! / mean, raw[1]! / mean, 1, raw[2]! / mean])
  const many = classWeightsOf("effective", { pixels: [1e9, 1e3], pixelsOfItsImages: [1e9, 1e9] }, ["a", "b"])
  expect(many!.every(Number.isFinite)).toBe(true)
  expect(many![1]! / many![0]!).toBeGreaterThan(500)
})

test("none, and weights as they are given", () => {
  expect(of("none")).toBeNull()
  expect(of([1, 2, 3, 4])).toEqual([1, 2, 3, 4])
  expect(() => of([1, 2])).toThrow("classWeights has 2 numbers, and there are 4 classes: a, b, never, c.")
})

test("a data set of one class", () => {
  for (const spec of ["inverse", "median", "enet", "effective"] as const) {
    const [weight] = classWeightsOf(spec, { pixels: [5], pixelsOfItsImages: [5] }, ["a"])!
    expect(weight).toBeGreaterThan(0)
    expect(weight).toBeLessThan(2)
  }
})
