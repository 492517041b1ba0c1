// native/upsampled-argmax.cc against the operators of libtorch that it stands for.
import { afterEach, expect, test } from "vitest"
import { enlargements } from "../../tests/data/enlargements.ts"
import {
  aten,
  call,
  type DType,
  manualSeed,
  randn,
  setThreads,
  type Tensor,
  tensor,
  tidy,
  upsampledArgmax,
} from "./index.ts"

type Size = readonly [number, number]

const enlarge = (logits: Tensor, size: Size, alignCorners: boolean, dtype: DType = "float32"): Tensor =>
  aten.upsample_bilinear2d(logits.to({ dtype }), size, alignCorners)
const composed = (logits: Tensor, size: Size, alignCorners: boolean): Tensor =>
  enlarge(logits, size, alignCorners).argmax({ dim: 1 }).to({ dtype: "uint8" })

afterEach(() => setThreads(1))

test("a value worked by hand", () => {
  // Class 0 falls from 2 to 0, class 1 is 1 everywhere: half way they are equal.
  const logits = tensor([[[[2, 0]], [[1, 1]]]]) // [1, 2, 1, 2]
  expect([...upsampledArgmax(logits, [1, 8]).data()]).toEqual([0, 0, 0, 0, 1, 1, 1, 1]) // at -0.375, -0.125, ... 1.375
  expect([...upsampledArgmax(logits, [1, 3], { alignCorners: true }).data()]).toEqual([0, 0, 1]) // at 0, 0.5 and 1
})

test.each([...enlargements, { shape: [1, 1, 3, 3], size: [9, 9] }, { shape: [1, 256, 3, 4], size: [12, 9] }] as const)(
  "logits $shape, labels of $size pixels: a class that float64 has as the largest",
  ({ shape, size }) => {
    manualSeed(1)
    for (const [threads, alignCorners] of [1, 3].flatMap((n) => [false, true].map((is) => [n, is] as const))) {
      setThreads(threads)
      for (const smooth of [false, true]) {
        tidy(() => {
          const logits = randn(shape).mul(4)
          if (smooth) logits.select(1, shape[1] - 1).add_(20) // one class nearly everywhere, as in real pictures
          const labels = upsampledArgmax(logits, size, { alignCorners })
          expect([labels.dtype, labels.shape, labels.requiresGrad]).toEqual(["uint8", [shape[0], ...size], false])
          const exact = enlarge(logits, size, alignCorners, "float64")
          const its = (call("aten::gather", exact, 1, labels.to({ dtype: "int64" }).unsqueeze(1)) as Tensor).squeeze({
            dim: 1,
          })
          // A coordinate of up to 11 is a product of two float32, wrong by up to 1.3e-6, times a slope of up to 20 a pixel
          expect(exact.max({ dim: 1 }).sub(its).max().item()).toBeLessThan(3e-5)
          const sideBySide = logits.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
          expect(upsampledArgmax(sideBySide, size, { alignCorners }).data()).toEqual(labels.data())
        })
      }
    }
  },
)

test("of equals the first, also where a later class leads the eight", () => {
  tidy(() => {
    const logits = tensor(Array.from({ length: 20 }, (_, k) => [[k % 5 === 3 ? 1 : 0, k % 5 === 3 ? 1 : 0]])).unsqueeze(
      0,
    )
    logits.at(0, 11, 0, 0).fill_(-5) // so that the corners differ, but not 3, 8, 13 and 18
    expect(logits.shape).toEqual([1, 20, 1, 2])
    for (const alignCorners of [false, true])
      expect([...upsampledArgmax(logits, [2, 7], { alignCorners }).data()]).toEqual(Array(14).fill(3))
  })
})

test("no numbers and infinities are as argmax has them", () => {
  manualSeed(2)
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    for (const alignCorners of [false, true]) {
      tidy(() => {
        const logits = randn([1, 11, 5, 4])
        logits.at(0, 4, 1, 2).fill_(bad)
        logits.at(0, 9, 1, 2).fill_(bad)
        logits.at(0, 2, 3, 0).fill_(bad)
        logits.select(3, 3).fill_(bad)
        expect(upsampledArgmax(logits, [19, 16], { alignCorners }).data()).toEqual(
          composed(logits, [19, 16], alignCorners).data(),
        )
      })
    }
  }
})

test("logits below what fills the eights", () => {
  manualSeed(2)
  tidy(() => {
    const logits = randn([1, 11, 5, 4]).sub(4).mul(1e37)
    expect(upsampledArgmax(logits, [20, 16]).data()).toEqual(composed(logits, [20, 16], false).data())
  })
})

test("in float64 it is libtorch's", () => {
  manualSeed(3)
  tidy(() => {
    const logits = randn([2, 5, 4, 6], { dtype: "float64" }).requiresGrad_()
    const labels = upsampledArgmax(logits, [13, 12])
    expect(labels.data()).toEqual(composed(logits.detach(), [13, 12], false).data())
    expect(labels.requiresGrad).toBe(false)
  })
})

test("what does not fit is an error", () => {
  expect(() => upsampledArgmax(randn([1, 257, 2, 2]), [4, 4])).toThrow(/1 to 256 classes/)
  expect(() => upsampledArgmax(randn([3, 2, 2]), [4, 4])).toThrow(/expected logits \[N, K, h, w\]/)
  expect(() => upsampledArgmax(randn([1, 3, 2, 2]), [0, 4])).toThrow(/at least one pixel/)
})
