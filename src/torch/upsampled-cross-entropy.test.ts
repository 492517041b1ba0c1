// native/upsampled-cross-entropy.cc against the operators of libtorch that it stands for.
import { afterEach, expect, test } from "vitest"
import { enlargements, relativeError } from "../../tests/data/enlargements.ts"
import {
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
  upsampledCrossEntropy,
} from "./index.ts"

type Options = Parameters<typeof upsampledCrossEntropy>[2]

const composed = (logits: Tensor, target: Tensor, options: Options = {}): Tensor => {
  const { alignCorners = false, labelSmoothing = 0 } = options
  const enlarged = aten.upsample_bilinear2d(logits, [target.size(1), target.size(2)], alignCorners)
  return aten.cross_entropy_loss(enlarged, target, { reduction: 0, ignoreIndex: 255, labelSmoothing })
}

/** Losses of the pixels, and the gradient of their sum weighted by `dy`. */
function results(
  run: typeof composed,
  logits: Tensor,
  target: Tensor,
  dy: Tensor,
  { dtype = "float32" as DType, alignCorners = false, labelSmoothing = 0 } = {},
) {
  const x = logits.detach().to({ dtype, copy: true }).requiresGrad_()
  const losses = run(x, target, { alignCorners, labelSmoothing })
  const [dx] = grad([losses], [x], { gradients: [dy.to({ dtype })] }) as [Tensor]
  return { losses, dx }
}

afterEach(() => setThreads(1))

test("a value worked by hand", () => {
  // Two classes, one row of two pixels enlarged to four: pixel 1 lies a quarter of the way between them.
  const logits = tensor([[[[0, 4]], [[0, 0]]]]) // [1, 2, 1, 2]
  const target = tensor([[[0, 0, 1, 255]]], { dtype: "int64" })
  const [first, second, third, fourth] = upsampledCrossEntropy(logits, target).data() as Float32Array
  expect(first).toBeCloseTo(Math.log(2), 6)
  expect(second).toBeCloseTo(Math.log(1 + Math.exp(-1)), 6)
  expect(third).toBeCloseTo(3 + Math.log(1 + Math.exp(-3)), 6)
  expect(fourth).toBe(0)
  // Corners on corners: the four pixels lie at 0, 1/3, 2/3 and 1.
  const aligned = upsampledCrossEntropy(logits, target, { alignCorners: true }).data() as Float32Array
  expect(aligned[1]).toBeCloseTo(Math.log(1 + Math.exp(-4 / 3)), 6)
  expect(aligned[2]).toBeCloseTo(8 / 3 + Math.log(1 + Math.exp(-8 / 3)), 6)
})

test("another label to ignore", () => {
  const target = tensor([[[0, 1]]], { dtype: "int64" })
  expect(upsampledCrossEntropy(tensor([[[[0]], [[0]]]]), target, { ignoreIndex: 1 }).data()).toEqual(
    Float32Array.of(Math.fround(Math.log(2)), 0),
  )
})

test.each(enlargements)(
  "logits $shape, labels of $size pixels: as close to float64 as float32 can be",
  ({ shape, size }) => {
    manualSeed(1)
    for (const [threads, alignCorners] of [1, 2, 3].flatMap((n) => [false, true].map((is) => [n, is] as const))) {
      setThreads(threads)
      tidy(() => {
        const logits = randn(shape).mul(4)
        const target = randint(0, shape[1], [shape[0], ...size])
        target.select(1, 0).fill_(255)
        const dy = randn(target.shape)
        for (const labelSmoothing of [0, 0.3]) {
          const options = { alignCorners, labelSmoothing }
          const truth = results(composed, logits, target, dy, { dtype: "float64", ...options })
          const [ours, libtorchs] = [upsampledCrossEntropy, composed].map((run) =>
            results(run, logits, target, dy, options),
          )
          // A coordinate of up to 11 is a product of two float32, wrong by up to 1.3e-6, and so is the weight that is made of it.
          // Smoothing makes the largest gradient smaller, and the softmax's part of it no better.
          const limit = 2.5e-6 / (1 - labelSmoothing)
          for (const name of ["losses", "dx"] as const) {
            expect(relativeError(ours![name], truth[name]), name).toBeLessThan(limit)
            expect(relativeError(libtorchs![name], truth[name]), name).toBeLessThan(limit)
          }
        }
      })
    }
  },
)

test("an ignored pixel has loss and gradient exactly 0, also where its logits are huge", () => {
  tidy(() => {
    const logits = randn([1, 3, 2, 2]).mul(1e30)
    const target = tensor(
      [
        [
          [255, 255],
          [255, 255],
        ],
      ],
      { dtype: "int64" },
    )
    const { losses, dx } = results(
      upsampledCrossEntropy,
      logits,
      target,
      tensor([
        [
          [1, 1],
          [1, 1],
        ],
      ]),
    )
    expect(losses.abs().max().item()).toBe(0)
    expect(dx.abs().max().item()).toBe(0)
  })
})

test("logits far apart neither overflow nor vanish", () => {
  tidy(() => {
    const logits = tensor([[[[500]], [[-500]], [[0]]]]) // [1, 3, 1, 1]
    const target = tensor([[[0, 1, 2]]], { dtype: "int64" })
    const { losses, dx } = results(upsampledCrossEntropy, logits, target, tensor([[[1, 1, 1]]]))
    expect(losses.data()).toEqual(Float32Array.of(0, 1000, 500))
    expect(dx.data()).toEqual(Float32Array.of(2, -1, -1))
  })
})

test("a logit that is NaN is not hidden", () => {
  const logits = randn([1, 3, 2, 2])
  logits.at(0, 1, 0, 0).fill_(Number.NaN)
  const target = randint(0, 3, [1, 4, 4])
  expect(upsampledCrossEntropy(logits, target).sum().item()).toBeNaN()
})

test("channels side by side, strange strides and other dtypes give the same", () => {
  manualSeed(2)
  tidy(() => {
    const logits = randn([2, 5, 4, 3])
    const target = randint(0, 5, [2, 9, 7])
    const plain = upsampledCrossEntropy(logits, target).data()
    const sideBySide = logits.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
    expect(upsampledCrossEntropy(sideBySide, target).data()).toEqual(plain)
    const turned = target.transpose(1, 2).contiguous().transpose(1, 2)
    expect(upsampledCrossEntropy(logits, turned).data()).toEqual(plain)
    const double = logits.to({ dtype: "float64" })
    expect(upsampledCrossEntropy(double, target).data()).toEqual(composed(double, target).data())
  })
})

test("it has second derivatives", () => {
  manualSeed(3)
  tidy(() => {
    const [logits, target] = [randn([1, 3, 3, 3]), randint(0, 3, [1, 6, 6])]
    const penalty = (run: typeof composed, dtype: DType) => {
      const x = logits.detach().to({ dtype, copy: true }).requiresGrad_()
      const [dx] = grad([run(x, target, { alignCorners: true, labelSmoothing: 0.2 }).sum()], [x], { createGraph: true })
      return grad([dx!.mul(dx!).sum()], [x])[0]!
    }
    expect(relativeError(penalty(upsampledCrossEntropy, "float32"), penalty(composed, "float64"))).toBeLessThan(1e-5)
  })
})

test("what does not fit is an error", () => {
  const logits = randn([1, 3, 2, 2])
  expect(() => upsampledCrossEntropy(logits, randint(0, 3, [2, 4, 4]))).toThrow(OpError)
  expect(() => upsampledCrossEntropy(logits, randn([1, 4, 4]))).toThrow(/int64 target/)
  expect(() => upsampledCrossEntropy(logits, randint(0, 3, [1, 4, 4]), { labelSmoothing: 1.5 })).toThrow(/share/)
  for (const wrong of [3, -1, 254])
    expect(() => upsampledCrossEntropy(logits, tensor([[[0, wrong]]], { dtype: "int64" }))).toThrow(`label ${wrong}`)
})
