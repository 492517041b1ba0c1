// native/pointwise-convolution.cc against libtorch's convolution in float64.
import { afterEach, expect, test } from "vitest"
import {
  aten,
  autocast,
  type DType,
  grad,
  manualSeed,
  pointwiseConv2d,
  randn,
  setThreads,
  type Tensor,
  tidy,
} from "./index.ts"

const names = ["y", "dx", "dweight", "dbias"] as const
type Results = Record<(typeof names)[number], Tensor>

const libtorchs: typeof pointwiseConv2d = (x, weight, bias) => aten.conv2d(x, weight, { bias })

const sideBySide = (x: Tensor): Tensor => x.contiguous({ memoryFormat: "channels_last" })

interface Values {
  x: Tensor
  weight: Tensor
  bias: Tensor
  dy: Tensor
}

function makeValues(shape: readonly number[], outChannels: number): Values {
  const [n, c, h, w] = shape as [number, number, number, number]
  return {
    x: sideBySide(randn(shape)),
    weight: randn([outChannels, c, 1, 1]),
    bias: randn([outChannels]),
    dy: sideBySide(randn([n, outChannels, h, w])),
  }
}

function results(convolve: typeof pointwiseConv2d, given: Values, dtype: DType = "float32"): Results {
  const copy = (tensor: Tensor) => tensor.detach().to({ dtype, copy: true }).requiresGrad_()
  const leaves = [copy(given.x), copy(given.weight), copy(given.bias)] as const
  const y = convolve(...leaves)
  const [dx, dweight, dbias] = grad([y], leaves, { gradients: [given.dy.to({ dtype })] }) as [Tensor, Tensor, Tensor]
  return { y, dx, dweight, dbias }
}

/** Largest difference from the truth, by the largest value there is. */
const error = (got: Tensor, exact: Tensor): number => got.sub(exact).abs().max().item() / exact.abs().max().item()

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
      const given = makeValues(shape, outChannels)
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
  tidy(() => {
    const given = makeValues([2, 8, 6, 7], 5)
    const all = results(pointwiseConv2d, given)
    const rows = results(pointwiseConv2d, { ...given, dy: given.dy.contiguous() })
    for (const name of names) expect(rows[name].data()).toEqual(all[name].data())
    const { x, weight, bias, dy } = given
    const learns = weight.detach().requiresGrad_()
    const [dweight] = grad([pointwiseConv2d(x, learns, bias)], [learns], { gradients: [dy] })
    expect(dweight!.data()).toEqual(all.dweight.data())
    const image = x.detach().requiresGrad_()
    const [dx] = grad([pointwiseConv2d(image, weight, null)], [image], { gradients: [dy] })
    expect(dx!.data()).toEqual(all.dx.data())
  })
})

test("it has second derivatives", () => {
  manualSeed(3)
  tidy(() => {
    const given = makeValues([2, 4, 5, 6], 3)
    const penalty = (convolve: typeof pointwiseConv2d, dtype: DType) => {
      const copy = (tensor: Tensor) => tensor.detach().to({ dtype, copy: true }).requiresGrad_()
      const leaves = [copy(given.x), copy(given.weight), copy(given.bias)] as const
      const [dx] = grad([convolve(...leaves)], [leaves[0]], {
        gradients: [given.dy.to({ dtype })],
        createGraph: true,
      })
      return grad([dx!.mul(dx!).sum()], [leaves[1]])[0]!
    }
    expect(error(penalty(pointwiseConv2d, "float32"), penalty(libtorchs, "float64"))).toBeLessThan(1e-6)
  })
})

test("what is not float32 and side by side is libtorch's, to the bit", () => {
  manualSeed(4)
  tidy(() => {
    const given = makeValues([2, 8, 6, 7], 5)
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
    const { x, weight } = makeValues([1, 8, 3, 3], 6)
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
