// native/upsampled-overlap.cc against the operators of libtorch that it stands for.
import { afterEach, expect, test } from "vitest"
import { enlargements, relativeError } from "../../tests/data/enlargements.ts"
import {
  arange,
  aten,
  type DType,
  grad,
  manualSeed,
  OpError,
  randint,
  randn,
  setThreads,
  type Tensor,
  tensor,
  tidy,
  upsampledOverlap,
} from "./index.ts"

/** [3, K] as the header of native/upsampled-overlap.cc writes it down. */
const composed: typeof upsampledOverlap = (logits, target, { ignoreIndex = 255, alignCorners = false } = {}) => {
  const enlarged = aten.upsample_bilinear2d(logits, [target.size(1), target.size(2)], alignCorners)
  const counted = target.ne(ignoreIndex).unsqueeze(1)
  const classes = arange(logits.size(1), { dtype: "int64" }).view([1, -1, 1, 1])
  const truth = target.unsqueeze(1).eq(classes).mul(counted).to({ dtype: logits.dtype })
  const probability = aten.softmax_int(enlarged, 1).mul(counted)
  return aten.stack([probability.mul(truth), probability, truth].map((each) => each.sum({ dim: [0, 2, 3] })))
}

/** The sums, and the gradient of their sum weighted by `dy` [3, K]. */
function results(
  run: typeof composed,
  logits: Tensor,
  target: Tensor,
  dy: Tensor,
  { dtype = "float32" as DType, alignCorners = false } = {},
) {
  const x = logits.detach().to({ dtype, copy: true }).requiresGrad_()
  const sums = run(x, target, { alignCorners })
  const [dx] = grad([sums], [x], { gradients: [dy.to({ dtype })] }) as [Tensor]
  return { sums, dx }
}

afterEach(() => setThreads(1))

test("a value worked by hand", () => {
  // Two classes, one row of two pixels enlarged to four; p of class 1 where its logit is above the other's by 0, 1, 3, 4.
  const logits = tensor([[[[0, 0]], [[0, 4]]]]) // [1, 2, 1, 2]
  const target = tensor([[[0, 1, 1, 255]]], { dtype: "int64" })
  const p = [0, 1, 3].map((v) => 1 / (1 + Math.exp(-v))) as [number, number, number]
  const expected = [1 - p[0], p[1] + p[2], 3 - p[0] - p[1] - p[2], p[0] + p[1] + p[2], 1, 2]
  const sums = Array.from(upsampledOverlap(logits, target).data() as Float32Array)
  for (const [k, value] of expected.entries()) expect(sums[k]).toBeCloseTo(value, 6)
  // The class 1 itself ignored: two pixels of class 0 are left.
  const two = tensor([[[0, 1, 1, 0]]], { dtype: "int64" })
  const [both, none, predicted] = upsampledOverlap(logits, two, { ignoreIndex: 1 }).data() as Float32Array
  expect(both).toBeCloseTo(1 - p[0] + 1 / (1 + Math.exp(4)), 6)
  expect([none, predicted]).toEqual([0, both])
})

test.each(enlargements)(
  "logits $shape, labels of $size pixels: as close to float64 as float32 can be",
  ({ shape, size }) => {
    manualSeed(1)
    for (const alignCorners of [false, true]) {
      tidy(() => {
        const logits = randn(shape).mul(4)
        const target = randint(0, shape[1], [shape[0], ...size])
        target.select(1, 0).fill_(255)
        const dy = randn([3, shape[1]])
        const truth = results(composed, logits, target, dy, { dtype: "float64", alignCorners })
        for (const threads of [1, 2, 3]) {
          setThreads(threads)
          const { sums, dx } = results(upsampledOverlap, logits, target, dy, { alignCorners })
          expect(relativeError(sums, truth.sums)).toBeLessThan(1e-6)
          expect(relativeError(dx, truth.dx)).toBeLessThan(5e-6)
        }
      })
    }
  },
)

test("the sums do not depend on the number of threads", () => {
  manualSeed(2)
  tidy(() => {
    const [logits, target] = [randn([3, 5, 9, 9]), randint(0, 5, [3, 70, 70])]
    const sums = [1, 2, 3].map((threads) => {
      setThreads(threads)
      return upsampledOverlap(logits, target).data()
    })
    expect(sums[1]).toEqual(sums[0])
    expect(sums[2]).toEqual(sums[0])
  })
})

test("ignored pixels count nowhere and have no gradient, whatever their logits", () => {
  tidy(() => {
    const logits = randn([1, 3, 2, 2]).mul(1e30)
    const { sums, dx } = results(upsampledOverlap, logits, tensor([[[255, 255]]], { dtype: "int64" }), randn([3, 3]))
    expect(sums.abs().max().item()).toBe(0)
    expect(dx.abs().max().item()).toBe(0)
  })
})

test("a logit that is NaN is not hidden", () => {
  const logits = randn([1, 3, 2, 2])
  logits.at(0, 1, 0, 0).fill_(Number.NaN)
  expect(
    upsampledOverlap(logits, randint(0, 3, [1, 4, 4]))
      .sum()
      .item(),
  ).toBeNaN()
})

test("channels side by side, strange strides and other dtypes give the same", () => {
  manualSeed(3)
  tidy(() => {
    const [logits, target] = [randn([2, 5, 4, 3]), randint(0, 5, [2, 9, 7])]
    const plain = upsampledOverlap(logits, target).data()
    const sideBySide = logits.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
    expect(upsampledOverlap(sideBySide, target).data()).toEqual(plain)
    const turned = target.transpose(1, 2).contiguous().transpose(1, 2)
    expect(upsampledOverlap(logits, turned).data()).toEqual(plain)
    const double = logits.to({ dtype: "float64" })
    expect(relativeError(upsampledOverlap(double, target), composed(double, target))).toBeLessThan(1e-15)
    const rounded = logits.to({ dtype: "bfloat16" })
    expect(upsampledOverlap(rounded, target).data()).toEqual(
      upsampledOverlap(rounded.to({ dtype: "float32" }), target).data(),
    )
  })
})

test("it has second derivatives", () => {
  manualSeed(4)
  tidy(() => {
    const [logits, target, dy] = [randn([1, 3, 3, 3]), randint(0, 3, [1, 6, 6]), randn([3, 3])]
    const penalty = (run: typeof composed, dtype: DType) => {
      const x = logits.detach().to({ dtype, copy: true }).requiresGrad_()
      const sum = run(x, target, { alignCorners: true }).mul(dy.to({ dtype })).sum()
      const [dx] = grad([sum], [x], { createGraph: true })
      return grad([dx!.mul(dx!).sum()], [x])[0]!
    }
    expect(relativeError(penalty(upsampledOverlap, "float32"), penalty(composed, "float64"))).toBeLessThan(1e-5)
  })
})

test("what does not fit is an error", () => {
  const logits = randn([1, 3, 2, 2])
  expect(() => upsampledOverlap(logits, randint(0, 3, [2, 4, 4]))).toThrow(OpError)
  expect(() => upsampledOverlap(logits, randn([1, 4, 4]))).toThrow(/int64 target/)
  for (const wrong of [3, -1, 254])
    expect(() => upsampledOverlap(logits, tensor([[[0, wrong]]], { dtype: "int64" }))).toThrow(`label ${wrong}`)
})
