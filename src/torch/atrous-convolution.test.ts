// native/atrous-convolution.cc against libtorch's convolution in float64.
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
import { aten, atrousConv2d, manualSeed, noGrad, randn, setThreads, type Tensor, tidy } from "./index.ts"

const ours =
  (rate: number): Convolve =>
  (x, weight, bias) =>
    atrousConv2d(x, weight, bias, rate)
const libtorchs =
  (rate: number): Convolve =>
  (x, weight, bias) =>
    aten.conv2d(x, weight, { bias, padding: rate, dilation: rate })
const layouts = { contiguous: (x: Tensor) => x.contiguous(), "side by side": sideBySide }
const valuesOf = (shape: readonly number[], outChannels: number, layout = layouts.contiguous) =>
  makeValues(libtorchs(1), shape, [outChannels, shape[1]!, 3, 3], layout)

afterEach(() => setThreads(1))

const sides = [1, 5, 11, 12, 13, 17, 25, 33]
const rates = [1, 2, 5, 6, 11, 12, 13, 16, 24, 36]
describe.each(Object.entries(layouts))("%s", (_, layout) => {
  test.each(rates)("every size at rate %i is libtorch's convolution", (rate) => {
    manualSeed(1)
    for (const h of sides) {
      for (const w of sides) {
        tidy(() => {
          const given = valuesOf([2, 3, h, w], 4, layout)
          const [got, exact] = [results(ours(rate), given), results(libtorchs(rate), given, "float64")]
          // Roundings of 6e-8 after each summand, as a random walk: of up to 36, of the parameters' gradients 2178.
          const few = 6e-8 * Math.sqrt(36)
          const many = 6e-8 * Math.sqrt(2178)
          const tolerance = { y: 2 * few, dx: 2 * few, dweight: many, dbias: many }
          for (const name of names)
            expect(error(got[name], exact[name]), `${name}, ${h}x${w}`).toBeLessThan(tolerance[name])
          expect([got.y.strides, got.dx.strides]).toEqual([layout(got.y).strides, layout(got.dx).strides])
          using _ = noGrad()
          const plain = atrousConv2d(given.x, given.weight, given.bias, rate)
          expect(error(plain, exact.y)).toBeLessThan(1e-6)
        })
      }
    }
  })

  test.each([
    [1, 4],
    [3, 1],
    [1, 1],
  ])("%i channels in, %i out", (inChannels, outChannels) => {
    manualSeed(4)
    for (const side of [13, 25]) {
      for (const rate of [12, 24]) {
        tidy(() => {
          const given = valuesOf([2, inChannels, side, side], outChannels, layout)
          const [got, exact] = [results(ours(rate), given), results(libtorchs(rate), given, "float64")]
          const tolerance = 2 * 6e-8 * Math.sqrt(2 * side * side) // the longest sums
          for (const name of names) expect(error(got[name], exact[name]), `${name}, ${side}`).toBeLessThan(tolerance)
        })
      }
    }
  })

  test("with many channels it is nearly as close to float64 as libtorch's float32", () => {
    manualSeed(2)
    for (const threads of [1, 2]) {
      setThreads(threads)
      tidy(() => {
        const given = valuesOf([2, 96, 33, 32], 40, layout)
        const exact = results(libtorchs(12), given, "float64")
        const [got, theirs] = [results(ours(12), given), results(libtorchs(12), given)]
        // Sums in another order: up to 2.4 times libtorch's error was seen
        for (const name of names)
          expect(error(got[name], exact[name]), name).toBeLessThan(Math.max(5e-7, 3 * error(theirs[name], exact[name])))
      })
    }
  })

  test("only the gradients that are wanted, from gradients that lie as they like", () => {
    manualSeed(3)
    tidy(() => {
      const given = valuesOf([2, 6, 14, 17], 5, layout)
      expectOnlyWanted(ours(12), given)
      const expanded = { ...given, dy: randn([1, 5, 1, 1]).expand([2, 5, 14, 17]) }
      const exact = results(libtorchs(12), expanded, "float64")
      const got = results(ours(12), expanded)
      for (const name of names) expect(error(got[name], exact[name]), name).toBeLessThan(1e-6)
    })
  })
})

test("it has second derivatives", () => {
  manualSeed(4)
  for (const rate of [6, 12])
    tidy(() => expectSecondDerivatives(ours(rate), libtorchs(rate), valuesOf([2, 3, 9, 14], 4)))
})

test("what is not float32 is libtorch's, to the bit", () => {
  manualSeed(5)
  tidy(() => {
    const given = valuesOf([2, 3, 14, 17], 4)
    for (const name of names)
      expect(results(ours(12), given, "float64")[name].data()).toEqual(
        results(libtorchs(12), given, "float64")[name].data(),
      )
  })
})

test("a NaN is not hidden", () => {
  tidy(() => {
    const { x, weight, bias } = valuesOf([1, 2, 20, 20], 1)
    x.at(0, 1, 0, 0).fill_(Number.NaN)
    const bad = aten.isnan(atrousConv2d(x, weight.requiresGrad_(), bias, 12))
    expect(bad.sum().item()).toBe(4) // seen from its own place, 12 to the right, 12 below, and both
    expect(bad.at(0, 0, 12, 12).item()).toBe(1)
  })
})

test("what does not fit is an error", () => {
  const [x, weight] = [randn([1, 4, 9, 9]), randn([2, 4, 3, 3])]
  expect(() => atrousConv2d(x, randn([2, 5, 3, 3]), null, 12)).toThrow(/atrous_conv2d\(x: float32\[1, 4, 9, 9\]/)
  expect(() => atrousConv2d(x, randn([2, 4, 1, 3]), null, 12)).toThrow(/weight \[Cout, C, 3, 3\]/)
  expect(() => atrousConv2d(x, weight, null, 0)).toThrow(/dilation 0/)
  expect(() => atrousConv2d(x, weight, randn([3]), 12)).toThrow(/bias/)
})
