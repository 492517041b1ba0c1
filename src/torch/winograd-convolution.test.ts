// native/winograd-convolution.cc against libtorch's convolution in float64.
import { afterEach, describe, expect, test } from "vitest"
import {
  aten,
  type DType,
  grad,
  manualSeed,
  noGrad,
  randn,
  setThreads,
  type Tensor,
  tidy,
  winogradConv2d,
  winogradKernels,
} from "./index.ts"

const names = ["y", "dx", "dweight", "dbias"] as const
type Results = Record<(typeof names)[number], Tensor>

const libtorchs: typeof winogradConv2d = (x, weight, bias, dilation) =>
  aten.conv2d(x, weight, { bias, padding: dilation, dilation })

const sideBySide = (x: Tensor): Tensor => x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])

interface Values {
  x: Tensor
  weight: Tensor
  bias: Tensor
  dy: Tensor
}

function makeValues(shape: readonly number[], outChannels: number): Values {
  const [n, c, h, w] = shape as [number, number, number, number]
  const weight = sideBySide(randn([outChannels, c, 3, 3]))
  return {
    x: sideBySide(randn(shape)),
    weight,
    bias: randn([outChannels]),
    dy: sideBySide(randn([n, outChannels, h, w])),
  }
}

function results(convolve: typeof winogradConv2d, given: Values, dilation: number, dtype: DType = "float32"): Results {
  const copy = (tensor: Tensor) => tensor.detach().to({ dtype, copy: true }).requiresGrad_()
  const leaves = [copy(given.x), copy(given.weight), copy(given.bias)] as const
  const y = convolve(...leaves, dilation)
  const [dx, dweight, dbias] = grad([y], leaves, { gradients: [given.dy.to({ dtype })] }) as [Tensor, Tensor, Tensor]
  return { y, dx, dweight, dbias }
}

/** Largest difference from the truth, by the largest value there is. */
const error = (got: Tensor, exact: Tensor): number =>
  got.sub(exact).abs().max().item() / Math.max(1e-3, exact.abs().max().item())

afterEach(() => setThreads(1))

test("kernels are made of 3x3 weights only", () => {
  for (const shape of [
    [8, 8, 2, 2],
    [8, 8],
    [8, 8, 3, 3, 1],
  ])
    expect(() => winogradKernels(randn(shape))).toThrow(/expected weight \[Cout, C, 3, 3\]/)
  expect(winogradKernels(randn([8, 16, 3, 3])).shape).toEqual([16, 8, 16])
})

const sides = [1, 2, 3, 4, 7, 8, 13]
describe.each([1, 2, 3, 5, 12])("dilation %i", (dilation) => {
  test("every size is libtorch's convolution", () => {
    manualSeed(1)
    for (const h of sides) {
      for (const w of sides) {
        tidy(() => {
          const given = makeValues([2, 8, h, w], 16)
          const exact = results(libtorchs, given, dilation, "float64")
          const got = results(winogradConv2d, given, dilation)
          // Tiles add and subtract up to 16 inputs before the products and up to 16 of these after them: of sums of up to 144
          // (of the parameters' gradients 338) products each rounding of 6e-8 counts about four times.
          const tolerance = 4 * 6e-8 * Math.sqrt(338)
          for (const name of names) expect(error(got[name], exact[name]), `${name}, ${h}x${w}`).toBeLessThan(tolerance)
          expect(got.y.strides[1]).toBe(1)
          using _ = noGrad()
          expect(winogradConv2d(given.x, given.weight, given.bias, dilation).data()).toEqual(got.y.data())
        })
      }
    }
  })
})

test("of many channels and tiles, in parts, on two threads", () => {
  manualSeed(2)
  for (const threads of [1, 2]) {
    setThreads(threads)
    tidy(() => {
      const given = makeValues([3, 40, 65, 62], 48) // 3 * 33 * 31 tiles of 88 channels: 3 parts
      const exact = results(libtorchs, given, 1, "float64")
      const [ours, theirs] = [results(winogradConv2d, given, 1), results(libtorchs, given, 1)]
      for (const name of names)
        expect(error(ours[name], exact[name]), name).toBeLessThan(Math.max(2e-6, 4 * error(theirs[name], exact[name])))
    })
  }
})

test("only the gradients that are wanted, from gradients that lie as they like", () => {
  manualSeed(3)
  tidy(() => {
    const given = makeValues([2, 8, 6, 7], 8)
    const all = results(winogradConv2d, given, 1)
    const rows = results(winogradConv2d, { ...given, dy: given.dy.contiguous() }, 1)
    for (const name of names) expect(rows[name].data()).toEqual(all[name].data())
    const { x, weight, bias, dy } = given
    const learns = weight.detach().requiresGrad_()
    const [dweight] = grad([winogradConv2d(x, learns, bias, 1)], [learns], { gradients: [dy] })
    expect(dweight!.data()).toEqual(all.dweight.data())
    const image = x.detach().requiresGrad_()
    const [dx] = grad([winogradConv2d(image, weight, null, 1)], [image], { gradients: [dy] })
    expect(dx!.data()).toEqual(all.dx.data())
  })
})

test("it has second derivatives", () => {
  manualSeed(4)
  tidy(() => {
    const given = makeValues([2, 8, 5, 6], 8)
    const penalty = (convolve: typeof winogradConv2d, dtype: DType) => {
      const copy = (tensor: Tensor) => tensor.detach().to({ dtype, copy: true }).requiresGrad_()
      const leaves = [copy(given.x), copy(given.weight), copy(given.bias)] as const
      const y = convolve(...leaves, 1)
      const [dx] = grad([y], [leaves[0]], { gradients: [given.dy.to({ dtype })], createGraph: true })
      return grad([dx!.mul(dx!).sum()], [leaves[1]])[0]!
    }
    expect(error(penalty(winogradConv2d, "float32"), penalty(libtorchs, "float64"))).toBeLessThan(1e-6)
  })
})

test("what is not float32 and side by side, or not in eights, is libtorch's, to the bit", () => {
  manualSeed(5)
  tidy(() => {
    const given = makeValues([2, 8, 6, 7], 8)
    const odd = makeValues([2, 7, 6, 7], 8)
    const rows = { ...given, x: given.x.contiguous(), weight: given.weight.contiguous() }
    for (const [values, dtype] of [
      [given, "float64"],
      [rows, "float32"],
      [odd, "float32"],
    ] as const) {
      const [a, b] = [results(winogradConv2d, values, 1, dtype), results(libtorchs, values, 1, dtype)]
      for (const name of names) expect(a[name].data(), name).toEqual(b[name].data())
    }
  })
})

test("a NaN is not hidden", () => {
  tidy(() => {
    const { x, weight } = makeValues([1, 8, 9, 9], 8)
    x.at(0, 3, 4, 4).fill_(Number.NaN)
    const bad = aten.isnan(winogradConv2d(x, weight, null, 1)) // at its neighbours, and in the rest of their tiles
    for (let k = 3; k <= 5; k++) expect(bad.at(0, 0, k, k).item()).toBe(1)
    expect(bad.at(0, 0, 0, 0).item()).toBe(0)
  })
})

test("what does not fit is an error", () => {
  const x = sideBySide(randn([1, 8, 9, 9]))
  expect(() => winogradConv2d(x, randn([8, 5, 3, 3]), null, 1)).toThrow(/winograd_conv2d\(x: float32\[1, 8, 9, 9\]/)
  expect(() => winogradConv2d(x, randn([8, 8, 1, 3]), null, 1)).toThrow(/weight \[Cout, C, 3, 3\]/)
  expect(() => winogradConv2d(x, randn([8, 8, 3, 3]), null, 0)).toThrow(/dilation 0/)
})
