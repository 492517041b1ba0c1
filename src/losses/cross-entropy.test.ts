import { describe, expect, test } from "vitest"
import { gradcheck } from "../../tests/grad/gradcheck.ts"
import {
  aten,
  Generator,
  grad,
  OpError,
  randint,
  randn,
  ShapeError,
  type Tensor,
  tensor,
  tidy,
} from "../torch/index.ts"
import { crossEntropy, type Reduction } from "./cross-entropy.ts"
import { losses } from "./index.ts"

const labels = (values: Parameters<typeof tensor>[0]) => tensor(values, { dtype: "int64" })
const values = (t: Tensor) => Array.from(t.data() as Float64Array)

// Three pixels in a row, two classes. Pixel 0: odds 3:1 for class 1, pixel 1: even, pixel 2: odds 1:7 for class 1.
// [N = 1, K = 2, H = 1, W = 3]
const worked = () =>
  tensor([[[[0, 0, 0]], [[Math.log(3), 0, Math.log(1 / 7)]]]], { dtype: "float64", requiresGrad: true })

test("a value worked by hand", () => {
  // p of the right class: 3/4, 1/2, 7/8
  const loss = crossEntropy(worked(), labels([[[1, 0, 0]]]))
  expect(loss.shape).toEqual([])
  expect(loss.item()).toBeCloseTo(-(Math.log(3 / 4) + Math.log(1 / 2) + Math.log(7 / 8)) / 3, 14)
})

test("class weights: the mean divides by the weights' sum, not by the number of pixels", () => {
  const weight = tensor([1, 4], { dtype: "float64" })
  const loss = crossEntropy(worked(), labels([[[1, 0, 0]]]), { weight })
  expect(loss.item()).toBeCloseTo(-(4 * Math.log(3 / 4) + Math.log(1 / 2) + Math.log(7 / 8)) / 6, 14)
})

test("an ignored pixel counts neither in the sum nor in the mean, and has a gradient of exactly 0", () => {
  const x = worked()
  const loss = crossEntropy(x, labels([[[1, 255, 0]]]))
  expect(loss.item()).toBeCloseTo(-(Math.log(3 / 4) + Math.log(7 / 8)) / 2, 14)
  loss.backward()
  // (p - one-hot) / 2 pixels: 1/4 / 2 and 1/8 / 2
  const gradient = values(x.grad as Tensor)
  for (const [i, expected] of [1 / 8, 0, -1 / 16, -1 / 8, 0, 1 / 16].entries())
    expect(gradient[i]).toBeCloseTo(expected, 14)
  expect([gradient[1], gradient[4]]).toEqual([0, 0])
})

test("reductions", () => {
  const target = labels([[[1, 255, 0]]])
  const each = crossEntropy(worked(), target, { reduction: "none" })
  expect(each.shape).toEqual([1, 1, 3])
  expect(each.at(0, 0, 1).item()).toBe(0)
  expect(crossEntropy(worked(), target, { reduction: "sum" }).item()).toBeCloseTo(
    -Math.log(3 / 4) - Math.log(7 / 8),
    14,
  )
})

test("another ignore index: then 255 is no label any more", () => {
  expect(crossEntropy(worked(), labels([[[1, -1, 0]]]), { ignoreIndex: -1 }).item()).toBeGreaterThan(0)
  expect(() => crossEntropy(worked(), labels([[[1, 255, 0]]]), { ignoreIndex: -1 })).toThrow(RangeError)
})

test("gradients: full Jacobian in float64, with weights, void and a class that is absent", () => {
  const generator = new Generator(2)
  const x = randn([2, 4, 3, 2], { dtype: "float64", requiresGrad: true, generator })
  const target = randint(0, 3, [2, 3, 2], { generator }) // class 3 is absent
  target.at(0, 1).fill_(255)
  const weight = tensor([0.5, 2, 1, 3], { dtype: "float64" })
  for (const options of [{}, { weight }, { reduction: "none" as const }, { weight, reduction: "sum" as const }]) {
    expect(gradcheck(() => crossEntropy(x, target, options), [x])).toBeGreaterThanOrEqual(48)
  }
})

test("a class that no pixel has: its logits are pushed down, and nothing divides by 0", () => {
  const x = worked()
  const loss = crossEntropy(x, labels([[[0, 0, 0]]]))
  loss.backward()
  const gradient = values(x.grad as Tensor)
  expect(gradient.slice(3).every((g) => g > 0)).toBe(true)
})

test("all pixels ignored: loss 0 and gradient exactly 0, where PyTorch gives NaN", () => {
  const target = labels([[[255, 255, 255]]])
  for (const weight of [undefined, tensor([1, 4], { dtype: "float64" })]) {
    const x = worked()
    const loss = crossEntropy(x, target, { weight })
    expect(loss.item()).toBe(0)
    loss.backward()
    expect((x.grad as Tensor).abs().max().item()).toBe(0)
  }
  expect(aten.cross_entropy_loss(worked(), target, { ignoreIndex: 255 }).item()).toBeNaN()
})

test("all pixels of weight 0: loss 0 and gradient 0", () => {
  const x = worked()
  const loss = crossEntropy(x, labels([[[1, 1, 255]]]), { weight: tensor([1, 0], { dtype: "float64" }) })
  expect(loss.item()).toBe(0)
  const [gradient] = grad([loss], [x])
  expect((gradient as Tensor).abs().max().item()).toBe(0)
})

test("a logit that is NaN is not hidden", () => {
  const x = worked().detach()
  x.at(0, 0, 0, 0).fill_(Number.NaN)
  expect(crossEntropy(x, labels([[[1, 0, 255]]])).item()).toBeNaN()
})

test("sizes that do not fit are named", () => {
  const x = randn([2, 4, 3, 2])
  expect(() => crossEntropy(x, labels([[[1]]]))).toThrow(
    new ShapeError(
      "crossEntropy: target is int64[1, 1, 1] but logits are float32[2, 4, 3, 2]; expected target [2, 3, 2].",
    ),
  )
  expect(() => crossEntropy(randn([4, 3, 2]), labels([[1]]))).toThrow(
    /logits are float32\[4, 3, 2\]; expected \[N, K, H, W\]/,
  )
  const target = randint(0, 4, [2, 3, 2])
  expect(() => crossEntropy(x, target, { weight: tensor([1, 2]) })).toThrow(/weight is float32\[2\].*\[4\]/)
  expect(() => crossEntropy(x, target.to({ dtype: "float32" }))).toThrow(/target is float32\[2, 3, 2\]; expected int64/)
})

test("a label outside the classes is named", () => {
  const x = randn([1, 3, 1, 2])
  for (const wrong of [3, -1, 254]) {
    let error: Error | undefined
    try {
      crossEntropy(x, labels([[[255, wrong]]]))
    } catch (caught) {
      error = caught as Error
    }
    expect(error).toBeInstanceOf(RangeError)
    expect(error?.message).toBe(
      `crossEntropy: target has label ${wrong}; expected 0..2 or 255 (ignored). Does the label map have 3 classes?`,
    )
    expect(error?.cause).toBeInstanceOf(OpError)
  }
})

test("every loss of the registry: a finite scalar with a finite gradient", () => {
  const x = randn([2, 4, 3, 2], { requiresGrad: true })
  const target = randint(0, 4, [2, 3, 2])
  for (const loss of Object.values(losses)) {
    const value = tidy(() => {
      const result = loss(x, target)
      result.backward()
      expect(result.shape).toEqual([])
      return result.item()
    })
    expect(Number.isFinite(value)).toBe(true)
    expect((x.grad as Tensor).sum().item()).not.toBeNaN()
  }
})

describe("smoothed labels", () => {
  test("a value worked by hand, with class weights and both denominators", () => {
    // Three pixels, the last void; p of class 1: 3/4, 1/2. A fifth of the target is spread over both classes.
    const weight = tensor([1, 4], { dtype: "float64" })
    const target = labels([[[1, 0, 255]]])
    const [first, second] = [
      -(0.8 * 4 * Math.log(3 / 4) + 0.1 * (Math.log(1 / 4) + 4 * Math.log(3 / 4))),
      -(0.8 * Math.log(1 / 2) + 0.1 * (Math.log(1 / 2) + 4 * Math.log(1 / 2))),
    ] as const
    const of = (reduction: Reduction) =>
      crossEntropy(worked(), target, { weight, labelSmoothing: 0.2, reduction }).detach()
    expect(values(of("none"))).toEqual([expect.closeTo(first, 14), expect.closeTo(second, 14), 0])
    expect(of("mean").item()).toBeCloseTo((first + second) / 5, 14)
    expect(of("mean-over-pixels").item()).toBeCloseTo((first + second) / 2, 14)
    expect(of("sum").item()).toBeCloseTo(first + second, 14)
  })

  test("gradients: full Jacobian in float64, exactly 0 for void; a class that is absent", () => {
    const generator = new Generator(3)
    const x = randn([2, 4, 3, 2], { dtype: "float64", requiresGrad: true, generator })
    const target = randint(0, 3, [2, 3, 2], { generator }) // class 3 is absent
    target.at(0, 1).fill_(255)
    const weight = tensor([0.5, 2, 1, 3], { dtype: "float64" })
    for (const options of [{}, { weight }, { weight, reduction: "mean-over-pixels" as const }]) {
      const smoothed = { ...options, labelSmoothing: 0.3 }
      expect(gradcheck(() => crossEntropy(x, target, smoothed), [x])).toBe(48)
      const [gradient] = grad([crossEntropy(x, target, smoothed)], [x])
      expect((gradient as Tensor).mul(target.eq(255).unsqueeze(1)).abs().max().item()).toBe(0)
    }
  })

  test("all pixels ignored: loss 0 and gradient exactly 0; a label outside the classes is named", () => {
    for (const reduction of ["mean", "mean-over-pixels", "sum"] as const) {
      const x = worked()
      const loss = crossEntropy(x, labels([[[255, 255, 255]]]), { labelSmoothing: 0.2, reduction })
      loss.backward()
      expect(loss.item()).toBe(0)
      expect((x.grad as Tensor).abs().max().item()).toBe(0)
    }
    expect(() => crossEntropy(worked(), labels([[[0, 7, 1]]]), { labelSmoothing: 0.2 })).toThrow(/has label 7/)
  })
})
