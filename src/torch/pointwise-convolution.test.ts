// native/pointwise-convolution.cc against libtorch's convolution in float64.
import { afterEach, expect, test } from "vitest"
import {
  error,
  expectOnlyWanted,
  expectSecondDerivatives,
  makeValues,
  names,
  results,
  sideBySide,
} from "../../tests/data/convolutions.ts"
import { aten, autocast, manualSeed, pointwiseConv2d, randn, setThreads, tidy } from "./index.ts"

const libtorchs: typeof pointwiseConv2d = (x, weight, bias) => aten.conv2d(x, weight, { bias })
const valuesOf = (shape: readonly number[], outChannels: number) =>
  makeValues(libtorchs, shape, [outChannels, shape[1]!, 1, 1])

afterEach(() => setThreads(1))

test.each([
  ["some pixels", [2, 5, 3, 4], 7],
  ["one pixel, as behind global pooling", [3, 16, 1, 1], 4],
  ["one channel in, one out", [2, 1, 5, 4], 1],
  ["shared by pixels", [2, 40, 33, 31], 24], // of two threads each has its part of the products
  ["shared by channels", [1, 96, 5, 5], 1200],
] as const)("%s", (_, shape, outChannels) => {
  manualSeed(1)
  for (const threads of [1, 2, 3]) {
    setThreads(threads)
    tidy(() => {
      const given = valuesOf(shape, outChannels)
      const exact = results(libtorchs, given, "float64")
      const got = results(pointwiseConv2d, given)
      const longest = Math.max(outChannels, given.x.numel / outChannels, given.dy.numel / outChannels)
      // Roundings of 6e-8 add up like steps in random directions.
      for (const name of names) expect(error(got[name], exact[name]), name).toBeLessThan(2 * 6e-8 * Math.sqrt(longest))
      expect(got.y.shape).toEqual(exact.y.shape)
      if (outChannels > 1) expect(got.y.strides[1]).toBe(1)
    })
  }
})

test("only the gradients that are wanted, from gradients that lie as they like", () => {
  manualSeed(2)
  tidy(() => expectOnlyWanted(pointwiseConv2d, valuesOf([2, 8, 6, 7], 5)))
})

test("it has second derivatives", () => {
  manualSeed(3)
  tidy(() => expectSecondDerivatives(pointwiseConv2d, libtorchs, valuesOf([2, 4, 5, 6], 3)))
})

test("what is not float32 and side by side is libtorch's, to the bit", () => {
  manualSeed(4)
  tidy(() => {
    const given = valuesOf([2, 8, 6, 7], 5)
    const rows = { ...given, x: given.x.contiguous() }
    for (const [values, dtype] of [
      [given, "float64"],
      [rows, "float32"],
    ] as const) {
      const [a, b] = [results(pointwiseConv2d, values, dtype), results(libtorchs, values, dtype)]
      for (const name of names) expect(a[name].data(), name).toEqual(b[name].data())
    }
    const inFewBits = (convolve: typeof pointwiseConv2d) =>
      autocast({ dtype: "bfloat16" }, () => convolve(given.x, given.weight, given.bias))
    expect(inFewBits(pointwiseConv2d).dtype).toBe("bfloat16")
    expect(inFewBits(pointwiseConv2d).data()).toEqual(inFewBits(libtorchs).data())
  })
})

test("a NaN is not hidden, and stays in its pixel", () => {
  tidy(() => {
    const { x, weight } = valuesOf([1, 8, 3, 3], 6)
    x.at(0, 3, 1, 1).fill_(Number.NaN)
    const bad = aten.isnan(pointwiseConv2d(x, weight, null))
    expect(bad.at(0, 0, 1, 1).item()).toBe(1)
    expect(bad.sum().item()).toBe(6)
  })
})

test("what does not fit is an error", () => {
  const x = sideBySide(randn([1, 8, 9, 9]))
  expect(() => pointwiseConv2d(x, randn([8, 5, 1, 1]), null)).toThrow(/pointwise_conv2d\(x: float32\[1, 8, 9, 9\]/)
  expect(() => pointwiseConv2d(x, randn([8, 8, 1, 3]), null)).toThrow(/weight \[Cout, C, 1, 1\]/)
  expect(() => pointwiseConv2d(x, randn([6, 8, 1, 1]), randn([5]))).toThrow(/bias/)
})
