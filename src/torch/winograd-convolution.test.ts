// native/winograd-convolution.cc against libtorch's convolution in float64.
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
import { aten, manualSeed, noGrad, randn, setThreads, tidy, winogradConv2d, winogradKernels } from "./index.ts"

const ours =
  (dilation: number): Convolve =>
  (x, weight, bias) =>
    winogradConv2d(x, weight, bias, dilation)
const libtorchs =
  (dilation: number): Convolve =>
  (x, weight, bias) =>
    aten.conv2d(x, weight, { bias, padding: dilation, dilation })
const valuesOf = (shape: readonly number[], outChannels: number) =>
  makeValues(libtorchs(1), shape, [outChannels, shape[1]!, 3, 3])

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
          const given = valuesOf([2, 8, h, w], 16)
          const exact = results(libtorchs(dilation), given, "float64")
          const got = results(ours(dilation), given)
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

test.each([
  ["many tiles, in parts that threads share", [3, 40, 65, 62], 48],
  ["few tiles of many channels, whose products threads share", [1, 160, 9, 9], 136],
  ["a large kernel, whose gradient is added up part by part", [2, 160, 60, 60], 136],
] as const)("%s", (_, shape, outChannels) => {
  manualSeed(2)
  for (const threads of [1, 2, 3]) {
    setThreads(threads)
    tidy(() => {
      const given = valuesOf(shape, outChannels)
      const exact = results(libtorchs(1), given, "float64")
      const [got, theirs] = [results(ours(1), given), results(libtorchs(1), given)]
      for (const name of names)
        expect(error(got[name], exact[name]), name).toBeLessThan(Math.max(2e-6, 4 * error(theirs[name], exact[name])))
    })
  }
})

test("only the gradients that are wanted, from gradients that lie as they like", () => {
  manualSeed(3)
  tidy(() => expectOnlyWanted(ours(1), valuesOf([2, 8, 6, 7], 8)))
})

test("it has second derivatives", () => {
  manualSeed(4)
  tidy(() => expectSecondDerivatives(ours(1), libtorchs(1), valuesOf([2, 8, 5, 6], 8)))
})

test("what is not float32 and side by side, or not in eights, is libtorch's, to the bit", () => {
  manualSeed(5)
  tidy(() => {
    const given = valuesOf([2, 8, 6, 7], 8)
    const odd = valuesOf([2, 7, 6, 7], 8)
    const rows = { ...given, x: given.x.contiguous(), weight: given.weight.contiguous() }
    for (const [values, dtype] of [
      [given, "float64"],
      [rows, "float32"],
      [odd, "float32"],
    ] as const) {
      const [a, b] = [results(ours(1), values, dtype), results(libtorchs(1), values, dtype)]
      for (const name of names) expect(a[name].data(), name).toEqual(b[name].data())
    }
  })
})

test("a NaN is not hidden", () => {
  tidy(() => {
    const { x, weight } = valuesOf([1, 8, 9, 9], 8)
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
