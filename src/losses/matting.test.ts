import { expect, test } from "vitest"
import { gradcheck } from "../../tests/grad/gradcheck.ts"
import { Generator, randn, type Tensor, tensor } from "../torch/index.ts"
import { crossEntropy } from "./cross-entropy.ts"
import { mattingCrossEntropy } from "./matting.ts"

const logits = (requiresGrad = false) =>
  tensor([[[[0, 0, 0]], [[Math.log(3), 0, Math.log(1 / 7)]]]], { dtype: "float64", requiresGrad }) // p_1: 3/4, 1/2, 1/8
const alpha = (values: number[]) => tensor([[values]], { dtype: "float64" })

test("a value worked by hand", () => {
  const expected =
    -(
      0.5 * Math.log(3 / 4) +
      0.5 * Math.log(1 / 4) +
      Math.log(1 / 2) +
      0.25 * Math.log(1 / 8) +
      0.75 * Math.log(7 / 8)
    ) / 3
  expect(mattingCrossEntropy(logits(), alpha([0.5, 1, 0.25])).item()).toBeCloseTo(expected, 14)
})

test("with nothing but 0 and 1 it is cross-entropy", () => {
  const labels = tensor([[[1, 0, 255]]], { dtype: "int64" })
  expect(mattingCrossEntropy(logits(), alpha([1, 0, 255])).item()).toBeCloseTo(
    crossEntropy(logits(), labels).item(),
    14,
  )
})

test("ignored pixels have a gradient of exactly 0; when all are, so is the loss", () => {
  const x = logits(true)
  mattingCrossEntropy(x, alpha([0.5, 255, 0.25])).backward()
  const gradient = Array.from((x.grad as Tensor).data() as Float64Array)
  expect([gradient[1], gradient[4]]).toEqual([0, 0])
  expect(gradient[0]).not.toBe(0)
  const all = logits(true)
  const loss = mattingCrossEntropy(all, alpha([255, 255, 255]))
  loss.backward()
  expect(loss.item()).toBe(0)
  expect((all.grad as Tensor).abs().max().item()).toBe(0)
})

test("gradients: full Jacobian in float64", () => {
  const x = randn([2, 2, 2, 3], { dtype: "float64", requiresGrad: true, generator: new Generator(3) })
  const a = tensor(
    [
      [
        [0, 0.25, 1],
        [255, 0.5, 0.75],
      ],
      [
        [0.1, 0.9, 255],
        [1, 0, 0.3],
      ],
    ],
    { dtype: "float64" },
  )
  expect(gradcheck(() => mattingCrossEntropy(x, a), [x])).toBe(24)
})

test("what does not fit is named", () => {
  const three = randn([1, 3, 1, 3], { dtype: "float64" })
  expect(() => mattingCrossEntropy(three, alpha([0, 1, 1]))).toThrow(
    /logits are float64\[1, 3, 1, 3\]; expected \[N, 2, H, W\]/,
  )
  expect(() => mattingCrossEntropy(logits(), alpha([0, 1]))).toThrow(
    /alpha is float64\[1, 1, 2\].*expected floats \[1, 1, 3\]/,
  )
  expect(() => mattingCrossEntropy(logits(), tensor([[[0, 1, 1]]], { dtype: "int64" }))).toThrow(/expected floats/)
  expect(() => mattingCrossEntropy(logits(), alpha([0, 1, 128]))).toThrow(/alpha has 128; expected 0 to 1, or 255/)
  expect(() => mattingCrossEntropy(logits(), alpha([0, 1, 1]), { weight: alpha([1, 2]) })).toThrow(
    /class weights are given/,
  )
})
