// What console.log shows. Bodies are PyTorch 1.13's str() where noted, with its "tensor" as "Tensor".
import { expect, test } from "vitest"
import { arange, full, noGrad, ones, tensor, tidy, zeros } from "./index.ts"

test("short tensors read as PyTorch's do", () =>
  tidy(() => {
    // golden: /usr/bin/python3, torch 1.13: print(torch.tensor([[1., -2.5], [3., 4.]])) and so on
    expect(
      `${tensor([
        [1, -2.5],
        [3, 4],
      ])}`,
    ).toBe("Tensor([[ 1.0000, -2.5000],\n        [ 3.0000,  4.0000]], float32, shape [2, 2])")
    expect(`${tensor(3.5)}`).toBe("Tensor(3.5000, float32, shape [])")
    expect(`${tensor([1, 2, 300])}`).toBe("Tensor([  1.,   2., 300.], float32, shape [3])")
    expect(`${tensor([1e-10, 1])}`).toBe("Tensor([1.0000e-10, 1.0000e+00], float32, shape [2])")
    expect(`${tensor([Number.NaN, Number.POSITIVE_INFINITY, 1.5])}`).toBe(
      "Tensor([   nan,    inf, 1.5000], float32, shape [3])",
    )
    expect(`${tensor([1, -20], { dtype: "int64" })}`).toBe("Tensor([  1, -20], int64, shape [2])")
    expect(`${arange(8, { dtype: "int64" }).reshape([2, 2, 2])}`).toBe(
      "Tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]], int64, shape [2, 2, 2])",
    )
    expect(`${arange(1001)}`).toBe("Tensor([   0.,    1.,    2., ...,  998.,  999., 1000.], float32, shape [1001])")
  }))

test("bool, empty, infinities, zeros and long rows", () =>
  tidy(() => {
    expect(`${tensor([1, 0], { dtype: "bool" })}`).toBe("Tensor([ true, false], bool, shape [2])")
    expect(`${zeros([0, 3])}`).toBe("Tensor([], float32, shape [0, 3])")
    expect(`${full([2], Number.NEGATIVE_INFINITY)}`).toBe("Tensor([-inf, -inf], float32, shape [2])")
    expect(`${full([1], Number.NaN)}`).toBe("Tensor([nan], float32, shape [1])")
    expect(`${zeros([2])}`).toBe("Tensor([0., 0.], float32, shape [2])")
    for (const line of `${arange(100)}`.split("\n")) expect(line.length).toBeLessThanOrEqual(82)
    expect(`${tensor([0.5], { dtype: "float16" })}`).toBe("Tensor([0.5000], float16, shape [1])")
  }))

test("says what else there is to know: gradients, history, disposal", () =>
  tidy(() => {
    const x = ones([2], { requiresGrad: true })
    expect(`${x}`).toBe("Tensor([1., 1.], float32, shape [2], requiresGrad)")
    expect(`${x.mul(2)}`).toContain("requiresGrad")
    expect(`${x.keep()}`).toContain("[1., 1.]")
    using _ = noGrad()
    expect(`${x.mul(2)}`).toBe("Tensor([2., 2.], float32, shape [2])")
    x.dispose()
    expect(`${x}`).toBe("Tensor(disposed float32[2])")
  }))

test("a huge tensor prints its edges only, at once, also where its elements would not fit the memory", () =>
  tidy(() => {
    const started = performance.now()
    expect(`${zeros([1]).expand([2 ** 32])}`).toBe("Tensor([0., 0., 0., ..., 0., 0., 0.], float32, shape [4294967296])")
    expect(`${arange(1e6).reshape([1000, 1000])}`.split("\n").length).toBe(7)
    expect(`${zeros([1000, 1000, 2])}`).toContain("...")
    expect(performance.now() - started).toBeLessThan(1000)
  }))
