// The checker itself: it must find what is wrong, also where a check of the sum would not.
import { expect, test } from "vitest"
import { aten, Generator, randn, type Tensor, tidy } from "../../src/torch/index.ts"
import { gradcheck } from "./gradcheck.ts"

const input = () => randn([2, 3], { dtype: "float64", requiresGrad: true, generator: new Generator(1) })

test("accepts a right gradient, and compares every output with every input", () => {
  const x = input()
  const before = x.data()
  expect(gradcheck(() => x.mul(x).add(x.exp()), [x])).toBe(36)
  expect(x.data()).toEqual(before)
})

/** The value of `shown` with the gradient of `used`. */
const withGradientOf = (used: Tensor, shown: Tensor): Tensor => used.add(shown.sub(used).detach())

test("finds a wrong factor", () => {
  const x = input()
  expect(() => gradcheck(() => withGradientOf(x.pow(3), x.pow(3).mul(1.00001)), [x])).toThrow(
    /wrong in 6 of 36 entries/,
  )
})

test("finds a missing gradient, and one where there should be none", () => {
  const x = input()
  expect(() => gradcheck(() => x.detach().mul(2).add(x.mul(0)), [x])).toThrow(
    /autograd 0, difference 1\.99|autograd 0, difference 2/,
  )
  expect(() => gradcheck(() => withGradientOf(x, x.mul(0)), [x])).toThrow(/autograd 1, difference 0/)
})

test("finds errors that cancel in the sum of the outputs", () => {
  const x = input()
  // Each row of a softmax sums to 1, so by the sum alone the gradient 0 would be right.
  const flat = () => tidy(() => withGradientOf(x.mul(0), aten.softmax_int(x, 1)))
  expect(() => gradcheck(() => flat().sum(), [x])).not.toThrow()
  expect(() => gradcheck(flat, [x])).toThrow(/wrong in 18 of 36 entries/)
})
