// Hard example mining against loops in float64, and at its corner steps.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { gradcheck } from "../../tests/grad/gradcheck.ts"
import { Generator, randn, type Tensor, tensor, tidy } from "../torch/index.ts"
import { hardPixels, meanOfTopK, minedShare } from "./mining.ts"

const float64 = (values: readonly number[]) => tensor([[[...values]]], { dtype: "float64" }) // [1, 1, W]
const flags = (t: Tensor) => Array.from(t.data() as Uint8Array)

test("the share falls from 1 to topK in steps or a share of the run, and stays there; at once when that is 0", () => {
  const of = (step: number) => minedShare({ topK: 0.25, until: 100 }, { step, progress: step / 400 })
  expect([0, 50, 99, 100, 101, 1e6].map(of)).toEqual([1, 0.625, 0.01 + 0.99 * 0.25, 0.25, 0.25, 0.25])
  expect(minedShare({ topK: 0.25, until: 0 }, { step: 0, progress: 0 })).toBe(0.25)
  const ofShare = (progress: number) => minedShare({ topK: 0.25, until: 0.5 }, { step: 7, progress })
  expect([0, 0.25, 0.5, 1].map(ofShare)).toEqual([1, 0.625, 0.25, 0.25])
})

describe("top-k", () => {
  test("k counts all pixels, ignored ones too; what is divided by counts only losses above 0", () => {
    // Half of six pixels: 5, 3 and 2. Of all but two: also the two zeros' nothing.
    const losses = float64([0, 5, 2, 0, 3, 1])
    expect(meanOfTopK(losses, 0.5).item()).toBeCloseTo(10 / 3, 15)
    expect(meanOfTopK(losses, 0.99).item()).toBeCloseTo(11 / 4, 15) // trunc(5.94) = 5: 5, 3, 2, 1 and a zero
    expect(meanOfTopK(losses, 1).item()).toBeCloseTo(11 / 4, 15)
    expect(meanOfTopK(losses, 0.01).item()).toBe(5) // at least one
  })

  test("nothing but zeros: 0", () => {
    expect(meanOfTopK(float64([0, 0, 0]), 0.5).item()).toBe(0)
  })

  test("equals a sort, and has its gradient", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 9, noNaN: true }), { minLength: 1, maxLength: 30 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (values, share) => {
          const k = Math.max(1, Math.trunc(share * values.length))
          const kept = values.toSorted((a, b) => b - a).slice(0, k)
          const expected = kept.reduce((sum, v) => sum + v, 0) / Math.max(1, kept.filter((v) => v !== 0).length)
          tidy(() => expect(meanOfTopK(float64(values), share).item()).toBeCloseTo(expected, 12))
        },
      ),
    )
    const x = randn([2, 3, 4], { dtype: "float64", requiresGrad: true, generator: new Generator(1) })
    expect(gradcheck(() => meanOfTopK(x.mul(x), 0.4), [x])).toBe(24)
  })

  test("a share that makes no sense", () => {
    for (const share of [0, -1, 1.1, Number.NaN])
      expect(() => meanOfTopK(float64([1]), share)).toThrow(/expected above 0, at most 1/)
  })
})

describe("online hard example mining", () => {
  const nll = float64([0.9, 0.5, 0.1, 0.7, 0.6].map((p) => -Math.log(p)))
  const all = tensor([[[1, 1, 1, 1, 1]]], { dtype: "bool" })

  test("keeps what is at most as probable as the threshold, and at least minKept", () => {
    expect(flags(hardPixels(nll, all, { threshold: 0.65, minKept: 0 }))).toEqual([0, 1, 1, 0, 1])
    expect(flags(hardPixels(nll, all, { threshold: 0.2, minKept: 0 }))).toEqual([0, 0, 1, 0, 0])
    expect(flags(hardPixels(nll, all, { threshold: 0.2, minKept: 3 }))).toEqual([0, 1, 1, 0, 1])
    expect(flags(hardPixels(nll, all, { threshold: 0.65, minKept: 2 }))).toEqual([0, 1, 1, 0, 1])
    expect(flags(hardPixels(nll, all, { threshold: 1, minKept: 0 }))).toEqual([1, 1, 1, 1, 1])
  })

  test("never keeps an ignored pixel, however many are wanted", () => {
    const losses = float64([0, 0.5, 0, 2])
    const counted = tensor([[[0, 1, 0, 1]]], { dtype: "bool" })
    expect(flags(hardPixels(losses, counted, { threshold: 1, minKept: 9 }))).toEqual([0, 1, 0, 1])
    const none = tensor([[[0, 0, 0, 0]]], { dtype: "bool" })
    expect(flags(hardPixels(losses.mul(0), none, { threshold: 0.5, minKept: 9 }))).toEqual([0, 0, 0, 0])
  })

  test("a threshold that is no probability", () => {
    expect(() => hardPixels(nll, all, { threshold: 0, minKept: 1 })).toThrow(
      /expected a probability above 0, at most 1/,
    )
  })
})
