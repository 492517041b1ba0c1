// native/depthwise-convolution.cc against libtorch's convolution in float64.
import { afterEach, describe, expect, test } from "vitest"
import {
  type Convolve,
  error,
  expectOnlyWanted,
  expectSecondDerivatives,
  makeValues,
  names,
  results,
  sideBySide,
} from "../../tests/data/convolutions.ts"
import { aten, depthwiseConv2d, manualSeed, randn, setThreads, tidy } from "./index.ts"

type Pair = readonly [number, number]

interface Case {
  x: readonly number[]
  kernel: Pair
  stride?: Pair
  /** top, bottom, left, right */
  padding?: readonly [number, number, number, number]
  dilation?: Pair
}

const ours =
  ({ stride, padding, dilation }: Case): Convolve =>
  (x, weight, bias) =>
    depthwiseConv2d(x, weight, {
      bias,
      ...(stride && { stride }),
      ...(padding && { padding }),
      ...(dilation && { dilation }),
    })
const libtorchs =
  ({ stride = [1, 1], padding = [0, 0, 0, 0], dilation = [1, 1] }: Case): Convolve =>
  (x, weight, bias) => {
    const [top, bottom, left, right] = padding
    const padded = aten.constant_pad_nd(x, [left, right, top, bottom])
    return aten.conv2d(padded, weight, { bias, stride, dilation, groups: x.size(1) })
  }
const valuesOf = (of: Case) => makeValues(libtorchs(of), of.x, [of.x[1]!, 1, ...of.kernel])

afterEach(() => setThreads(1))

const cases: Case[] = [
  { x: [2, 3, 5, 4], kernel: [3, 3] },
  { x: [1, 2, 1, 1], kernel: [1, 1] },
  { x: [2, 5, 7, 6], kernel: [3, 3], padding: [1, 1, 1, 1] },
  { x: [2, 8, 9, 11], kernel: [3, 3], padding: [2, 2, 2, 2], dilation: [2, 2] },
  { x: [2, 9, 6, 6], kernel: [3, 3], padding: [12, 12, 12, 12], dilation: [12, 12] }, // only the middle tap sees the image
  { x: [2, 33, 8, 8], kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] },
  { x: [1, 16, 9, 8], kernel: [3, 3], stride: [2, 2], padding: [0, 1, 0, 1] }, // TensorFlow's
  { x: [1, 40, 10, 7], kernel: [5, 5], stride: [1, 2], padding: [2, 2, 2, 2] },
  { x: [2, 59, 12, 9], kernel: [2, 3], stride: [2, 1], padding: [0, 3, 1, 2], dilation: [3, 2] },
  { x: [1, 8, 10, 10], kernel: [1, 1], stride: [3, 3] }, // pixels that no output sees
  { x: [4, 96, 24, 20], kernel: [3, 3], padding: [2, 2, 2, 2], dilation: [2, 2] }, // enough for two threads
]

describe.each(cases.map((of) => [JSON.stringify(of), of] as const))("%s", (_, of) => {
  test("is as close to float64 as libtorch's float32", () => {
    manualSeed(1)
    for (const threads of [1, 2]) {
      setThreads(threads)
      tidy(() => {
        const given = valuesOf(of)
        const truth = results(libtorchs(of), given, "float64")
        const [a, b] = [results(ours(of), given), results(libtorchs(of), given)]
        // 5e-7: a few roundings of 6e-8, where libtorch was lucky
        for (const name of names)
          expect(error(a[name], truth[name]), name).toBeLessThanOrEqual(Math.max(5e-7, error(b[name], truth[name])))
        expect(a.y.strides).toEqual(sideBySide(a.y).strides)
      })
    }
  })
})

test("what is not side by side in float32 is libtorch's, to the bit", () => {
  manualSeed(2)
  const of: Case = { x: [2, 5, 7, 6], kernel: [3, 3], padding: [1, 1, 1, 1] }
  tidy(() => {
    const given = valuesOf(of)
    const rows = { ...given, x: given.x.contiguous() }
    const plain: Convolve = (x, weight, bias) => aten.conv2d(x, weight, { bias, padding: 1, groups: 5 })
    for (const [values, dtype] of [
      [rows, "float32"],
      [given, "float64"],
    ] as const) {
      const [a, b] = [results(ours(of), values, dtype), results(plain, values, dtype)]
      for (const name of names) expect(a[name].data(), name).toEqual(b[name].data())
    }
  })
})

test("only the gradients that are wanted, from gradients that lie as they like", () => {
  manualSeed(3)
  const of: Case = { x: [2, 6, 5, 5], kernel: [3, 3], dilation: [2, 2], padding: [2, 2, 2, 2] }
  tidy(() => expectOnlyWanted(ours(of), valuesOf(of)))
})

test("it has second derivatives", () => {
  manualSeed(4)
  const of: Case = { x: [2, 3, 4, 5], kernel: [3, 3], padding: [1, 1, 1, 1], dilation: [1, 1] }
  tidy(() => expectSecondDerivatives(ours(of), libtorchs(of), valuesOf(of)))
})

test("a NaN is not hidden, and stays in its channel", () => {
  tidy(() => {
    const x = sideBySide(randn([1, 12, 4, 4]))
    x.at(0, 3, 1, 1).fill_(Number.NaN)
    const y = depthwiseConv2d(x, randn([12, 1, 3, 3]), { padding: [1, 1, 1, 1] })
    const bad = Array.from({ length: 12 }, (_, c) => aten.isnan(y.select(1, c)).sum().item())
    expect(bad).toEqual([0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0])
  })
})

test("what does not fit is an error", () => {
  const x = sideBySide(randn([1, 4, 5, 5]))
  const weight = randn([4, 1, 3, 3])
  expect(() => depthwiseConv2d(x, randn([5, 1, 3, 3]))).toThrow(/depthwise_conv2d\(x: float32\[1, 4, 5, 5\]/)
  expect(() => depthwiseConv2d(x, weight, { dilation: [3, 3] })).toThrow(/[Kk]ernel size can't be greater/)
  expect(() => depthwiseConv2d(x, weight, { stride: [0, 1] })).toThrow(/stride/)
  expect(() => depthwiseConv2d(x, weight, { padding: [-1, 0, 0, 0] })).toThrow(/padding/)
  expect(() => depthwiseConv2d(x, weight, { bias: randn([3]) })).toThrow(/bias/)
  expect(() => depthwiseConv2d(randn([4, 5, 5]), weight)).toThrow(/expected x \[N, C, H, W\]/)
})
