import { describe, expect, test } from "vitest"
import { gradcheck } from "../../tests/grad/gradcheck.ts"
import { Generator, randint, randn, type Tensor, tensor } from "../torch/index.ts"
import { focal } from "./focal.ts"

// Three pixels, two classes; p of class 1: 3/4, 1/2, 1/8. [N = 1, K = 2, H = 1, W = 3]
const worked = () =>
  tensor([[[[0, 0, 0]], [[Math.log(3), 0, Math.log(1 / 7)]]]], { dtype: "float64", requiresGrad: true })
const labels = (values: number[]) => tensor([[values]], { dtype: "int64" })
const gradientOf = (x: Tensor) => Array.from((x.grad as Tensor).data() as Float64Array)

describe("values worked by hand", () => {
  // p of the right class: 3/4, 1/2, 1/8
  const parts = (gamma: number) => [3 / 4, 1 / 2, 1 / 8].map((p) => -((1 - p) ** gamma) * Math.log(p))
  const sum = ([a, b, c]: number[]) => a! + b! + c!

  test.each([0, 0.5, 1, 2, 5])("gamma %f", (gamma) => {
    expect(focal(worked(), labels([1, 0, 1]), { gamma }).item()).toBeCloseTo(sum(parts(gamma)) / 3, 14)
  })

  test("gamma is 2 unless given", () => {
    expect(focal(worked(), labels([1, 0, 1])).item()).toBeCloseTo(sum(parts(2)) / 3, 14)
  })

  test("class weights, with both denominators", () => {
    const weight = tensor([1, 4], { dtype: "float64" })
    const [a, b, c] = parts(2) as [number, number, number]
    const of = (reduction: "mean" | "mean-over-pixels") =>
      focal(worked(), labels([1, 0, 1]), { weight, reduction }).item()
    expect(of("mean")).toBeCloseTo((4 * a + b + 4 * c) / 9, 14)
    expect(of("mean-over-pixels")).toBeCloseTo((4 * a + b + 4 * c) / 3, 14)
  })
})

test("gradients: full Jacobian in float64, with weights, void and a class that is absent", () => {
  const generator = new Generator(4)
  const x = randn([2, 4, 3, 2], { dtype: "float64", requiresGrad: true, generator })
  const target = randint(0, 3, [2, 3, 2], { generator }) // class 3 is absent
  target.at(0, 1).fill_(255)
  const weight = tensor([0.5, 2, 1, 3], { dtype: "float64" })
  for (const gamma of [0, 0.5, 2, 3.5]) {
    expect(gradcheck(() => focal(x, target, { gamma }), [x])).toBe(48)
    expect(gradcheck(() => focal(x, target, { gamma, weight, reduction: "none" }), [x])).toBeGreaterThan(48)
  }
})

test("an ignored pixel counts neither in the sum nor in the mean, and has a gradient of exactly 0", () => {
  const x = worked()
  const loss = focal(x, labels([1, 255, 1]))
  expect(loss.item()).toBeCloseTo(-((1 / 4) ** 2 * Math.log(3 / 4) + (7 / 8) ** 2 * Math.log(1 / 8)) / 2, 14)
  loss.backward()
  const gradient = gradientOf(x)
  expect([gradient[1], gradient[4]]).toEqual([0, 0])
  expect(gradient[0]).not.toBe(0)
})

test("all pixels ignored: loss 0 and gradient exactly 0, for every gamma", () => {
  for (const gamma of [0, 0.5, 2]) {
    for (const weight of [undefined, tensor([1, 4], { dtype: "float64" })]) {
      const x = worked()
      const loss = focal(x, labels([255, 255, 255]), { gamma, weight })
      loss.backward()
      expect(loss.item()).toBe(0)
      expect(gradientOf(x)).toEqual([0, 0, 0, 0, 0, 0])
    }
  }
})

test("a pixel that is certain, rightly or wrongly, has a finite loss and gradient; one that is NaN is not hidden", () => {
  for (const gamma of [0.5, 1, 2]) {
    const x = tensor([[[[200, -200]], [[-200, 200]]]], { requiresGrad: true })
    const loss = focal(x, labels([0, 0]), { gamma })
    loss.backward()
    expect(loss.item()).toBeCloseTo(200, 3)
    expect(Array.from((x.grad as Tensor).data() as Float32Array).every(Number.isFinite)).toBe(true)
    x.detach().fill_(Number.NaN)
    expect(focal(x, labels([0, 0]), { gamma }).item()).toBeNaN()
  }
})

test("a gamma below 0 is refused", () => {
  expect(() => focal(worked(), labels([1, 0, 1]), { gamma: -1 })).toThrow(/gamma is -1; expected 0/)
})

test("sizes and labels that do not fit are named", () => {
  const x = worked()
  expect(() => focal(x, labels([1, 0]))).toThrow(/focal: target is int64\[1, 1, 2\].*expected target \[1, 1, 3\]/)
  expect(() => focal(x, labels([1, 0, 1]), { weight: tensor([1, 2, 3], { dtype: "float64" }) })).toThrow(
    /focal: weight is float64\[3\].*expected one weight per class, \[2\]/,
  )
  expect(() => focal(x, labels([1, 2, 255]))).toThrow(/target has label 2; expected 0..1 or 255/)
})
