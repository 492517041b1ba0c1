// The losses of regions and of distances: values by hand, what is true of all of them, and how they hang together.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { gradcheck } from "../../tests/grad/gradcheck.ts"
import { UserError } from "../errors.ts"
import { aten, Generator, grad, randint, randn, ShapeError, type Tensor, tensor, tidy } from "../torch/index.ts"
import { boundary } from "./boundary.ts"
import { dice } from "./dice.ts"
import { generalizedDice } from "./generalized-dice.ts"
import { hausdorff } from "./hausdorff.ts"
import type { Loss } from "./index.ts"
import { jaccard } from "./jaccard.ts"
import { lovaszSoftmax } from "./lovasz-softmax.ts"
import { tversky } from "./tversky.ts"

const labels = (values: Parameters<typeof tensor>[0]) => tensor(values, { dtype: "int64" })
const float64 = (values: Parameters<typeof tensor>[0]) => tensor(values, { dtype: "float64" })
const gradientOf = (x: Tensor): number[] => Array.from((x.grad as Tensor).data() as Float64Array)

/** The named loss with an option set. */
const focalTversky: Loss = (logits, target, options) => tversky(logits, target, { ...options, gamma: 0.75 })
const hausdorff1: Loss = (logits, target, options) => hausdorff(logits, target, { ...options, alpha: 1 })

const overlaps: Record<string, Loss> = { dice, generalizedDice, jaccard, tversky, focalTversky, lovaszSoftmax }
const all: Record<string, Loss> = { ...overlaps, hausdorff, hausdorff1, boundary }

// --- values by hand ----------------------------------------------------------------------------------------------------

// Three pixels in a row, two classes. p of class 1: 3/4, 1/2, 1/8.
// [N = 1, K = 2, H = 1, W = 3]
const worked = () =>
  tensor([[[[0, 0, 0]], [[Math.log(3), 0, Math.log(1 / 7)]]]], { dtype: "float64", requiresGrad: true })
const truth = () => labels([[[1, 0, 0]]])
const withVoid = () => labels([[[1, 0, 255]]])

describe("a value worked by hand", () => {
  const exactly = (loss: Tensor, value: number) => {
    expect(loss.shape).toEqual([])
    expect(loss.item()).toBeCloseTo(value, 14)
  }

  test("dice", () => {
    // class 0: 2 (1/2 + 7/8) / (13/8 + 2), class 1: 2 (3/4) / (11/8 + 1)
    exactly(dice(worked(), truth(), { eps: 0 }), 1 - (22 / 29 + 12 / 19) / 2)
    exactly(dice(worked(), withVoid(), { eps: 0 }), 1 - (4 / 7 + 2 / 3) / 2)
    exactly(dice(worked(), truth(), { eps: 1 }), 1 - (30 / 37 + 20 / 27) / 2)
    exactly(dice(worked(), truth(), { eps: 0, weight: float64([1, 3]) }), 1 - (22 / 29 + (3 * 12) / 19) / 4)
  })

  test("generalised dice", () => {
    // Weights 1/4 and 1: 1 - 2 (1/4 11/8 + 3/4) / (1/4 29/8 + 19/8)
    exactly(generalizedDice(worked(), truth()), 1 / 3)
    exactly(
      generalizedDice(worked(), truth(), { weight: float64([4, 1]) }),
      1 - (2 * (11 / 8 + 3 / 4)) / (29 / 8 + 19 / 8),
    )
  })

  test("jaccard", () => {
    // class 0: 11/8 of 13/8 + 2 - 11/8, class 1: 3/4 of 11/8 + 1 - 3/4
    exactly(jaccard(worked(), truth(), { eps: 0 }), 1 - (11 / 18 + 6 / 13) / 2)
    exactly(jaccard(worked(), truth(), { eps: 1 }), 1 - (19 / 26 + 14 / 21) / 2)
  })

  test("tversky", () => {
    // class 0: TP 11/8, FP 1/4, FN 5/8; class 1: TP 3/4, FP 5/8, FN 1/4
    const missed = [
      1 - 1.375 / (1.375 + 0.3 * 0.25 + 0.7 * 0.625),
      1 - 0.75 / (0.75 + 0.3 * 0.625 + 0.7 * 0.25),
    ] as const
    exactly(tversky(worked(), truth(), { eps: 0 }), (missed[0] + missed[1]) / 2)
    exactly(tversky(worked(), truth(), { eps: 0, gamma: 0.75 }), (missed[0] ** 0.75 + missed[1] ** 0.75) / 2)
    exactly(tversky(worked(), truth(), { eps: 0, alpha: 0, beta: 2 }), 1 - (1.375 / 2.625 + 0.75 / 1.25) / 2)
  })

  test("lovasz-softmax", () => {
    // Both classes have errors 1/2, 1/4, 1/8 at pixels 1, 0, 2. IoU loss as these become wrong:
    // class 0, which has pixels 1 and 2: 1/2, 2/3, 1; class 1, which has pixel 0: 1/2, 1, 1
    const [first, second] = [1 / 4 + (1 / 4) * (1 / 6) + (1 / 8) * (1 / 3), 1 / 4 + (1 / 4) * (1 / 2)] as const
    exactly(lovaszSoftmax(worked(), truth()), (first + second) / 2)
    exactly(lovaszSoftmax(worked(), truth(), { weight: float64([3, 1]) }), (3 * first + second) / 4)
  })

  test("hausdorff", () => {
    // Squared errors 1/16, 1/4, 1/64. Class 0 is predicted at pixel 2 alone, class 1 at pixel 0 alone.
    // Squared distances, class 0: predicted 4 1 1, true 1 1 4; class 1: both 1 1 4
    const [first, second] = [(5 / 16 + 2 / 4 + 5 / 64) / 3, (2 / 16 + 2 / 4 + 8 / 64) / 3] as const
    exactly(hausdorff(worked(), truth()), (first + second) / 2)
    const [first1, second1] = [(3 / 16 + 2 / 4 + 3 / 64) / 3, (2 / 16 + 2 / 4 + 4 / 64) / 3] as const
    exactly(hausdorff(worked(), truth(), { alpha: 1 }), (first1 + second1) / 2)
    // Without pixel 2 class 0 is predicted nowhere: only the distance from the truth is left. True 1 1 for both classes,
    // predicted 1 1 for class 1.
    exactly(hausdorff(worked(), withVoid()), ((1 / 16 + 1 / 4) / 2 + (2 / 16 + 2 / 4) / 2) / 2)
  })

  test("boundary", () => {
    // class 0: 1 -1 -2 times 1/4 1/2 7/8; class 1: -1 1 2 times 3/4 1/2 1/8
    exactly(boundary(worked(), truth()), ((1 / 4 - 1 / 2 - 7 / 4) / 3 + 0) / 2)
    exactly(boundary(worked(), withVoid()), ((1 / 4 - 1 / 2) / 2 + (-3 / 4 + 1 / 2) / 2) / 2)
  })

  test("distances in two directions", () => {
    // All pixels undecided but for class 1's only one, (0, 0), which is right: its squared distances are 1 1, 1 2.
    const logits = float64([[[[-50, 0], [0, 0]], [[50, 0], [0, 0]]]]) // biome-ignore format: two by two
    const target = labels([[[1, 0], [0, 0]]]) // biome-ignore format: two by two
    // Errors of 1/2 at three pixels. Both masks of class 1 are that pixel; class 0 is predicted nowhere.
    exactly(hausdorff(logits, target), ((2 * (1 + 1 + 2)) / 4 / 4 + (1 + 1 + 2) / 4 / 4) / 2)
    const away = (1 + 1 + Math.SQRT2) / 2
    exactly(boundary(logits, target), ((away - 1) / 4 + -away / 4) / 2)
  })
})

// --- what is true of all -------------------------------------------------------------------------------------------------

const drawn = (seed: number, shape: readonly [number, number, number, number], classes: number = shape[1]) => {
  const generator = new Generator(seed)
  const x = randn(shape, { dtype: "float64", requiresGrad: true, generator })
  const target = randint(0, classes, [shape[0], shape[2], shape[3]], { generator })
  return { x, target, generator }
}

describe.each(Object.entries(all))("%s", (name, loss) => {
  test("gradient: full Jacobian in float64, with weights, void, a class that is absent and one in a single image", () => {
    const { x, target } = drawn(3, [2, 4, 4, 3], 3) // class 3 is absent
    target.at(0, 1).fill_(255)
    target.select(0, 1).fill_(0)
    target.at(1, 2, 1).fill_(1)
    for (const weight of [undefined, float64([0.5, 2, 1, 3])])
      expect(gradcheck(() => loss(x, target, { weight }), [x])).toBe(96)
  })

  test("void pixels have a gradient of exactly 0, and nothing depends on what is predicted there", () => {
    const { x, target, generator } = drawn(4, [2, 3, 5, 4])
    const isVoid = randn(target.shape, { generator }).gt(0.5)
    const masked = aten.masked_fill_Scalar(target, isVoid, 255)
    const value = loss(x, masked)
    value.backward()
    const gradient = (x.grad as Tensor).abs().sum({ dim: 1 })
    expect(gradient.mul(isVoid).max().item()).toBe(0)
    expect(gradient.max().item()).toBeGreaterThan(0)
    const elsewhere = x.detach().add(randn(x.shape, { dtype: "float64", generator }).mul(isVoid.unsqueeze(1)).mul(5))
    expect(loss(elsewhere, masked).item()).toBe(value.item())
    // Another label of void, also one that is a class: the same value
    expect(loss(x, aten.masked_fill_Scalar(target, isVoid, -1), { ignoreIndex: -1 }).item()).toBe(value.item())
    const only12 = aten.masked_fill_Scalar(target, target.eq(0), 255)
    expect(loss(x, target, { ignoreIndex: 0 }).item()).toBe(loss(x, only12).item())
  })

  test("all pixels void, or of classes that weigh 0: loss 0 and gradient exactly 0", () => {
    const { x, target } = drawn(5, [2, 3, 3, 4], 2)
    const none = aten.full_like(target, 255)
    const weight = float64([0, 0, 1])
    for (const [t, options] of [
      [none, {}],
      [none, { weight }],
      [target, { weight }],
    ] as const) {
      const value = loss(x, t, options)
      expect(value.item() + 0).toBe(0) // not -0
      const [gradient] = grad([value], [x])
      expect((gradient as Tensor).abs().max().item()).toBe(0)
    }
  })

  test("a class that no pixel has is skipped: its weight changes nothing, and nothing divides by 0", () => {
    const { x, target } = drawn(6, [1, 3, 4, 4], 2)
    const [light, heavy] = [1, 1000].map((w) => loss(x, target, { weight: float64([1, 2, w]) }).item())
    expect(heavy).toBe(light)
    // predicted nowhere either
    const certain = x.detach().clone()
    certain.select(1, 2).fill_(-1e4)
    expect(Number.isFinite(loss(certain, target).item())).toBe(true)
  })

  test("flipping image and mask together changes nothing", () => {
    const { x, target } = drawn(7, [2, 3, 5, 6])
    target.at(0, 0).fill_(255)
    for (const fromTheEnd of [1, 2]) {
      const flipped = loss(aten.flip(x, [4 - fromTheEnd]), aten.flip(target, [3 - fromTheEnd]))
      expect(flipped.item()).toBeCloseTo(loss(x, target).item(), 12)
    }
  })

  test("better where the prediction is better", () => {
    const { target } = drawn(8, [2, 3, 6, 6])
    const right = aten.one_hot(target, { numClasses: 3 }).permute([0, 3, 1, 2]).to({ dtype: "float64" })
    const values = [-4, -1, 0, 1, 4, 30].map((certainty) => loss(right.mul(certainty), target).item())
    expect(values).toEqual(values.toSorted((a, b) => b - a))
    if (!name.startsWith("bound")) expect(values.at(-1)).toBeLessThan(1e-4)
  })

  test("a logit that is NaN is not hidden; huge ones do no harm", () => {
    const { x, target } = drawn(9, [1, 3, 3, 3])
    const broken = x.detach().clone()
    broken.at(0, 0, 1, 1).fill_(Number.NaN)
    expect(loss(broken, target).item()).toBeNaN()
    const huge = x.detach().to({ dtype: "float32" }).mul(1e30).requiresGrad_()
    const value = loss(huge, target)
    value.backward()
    expect(Number.isFinite(value.item())).toBe(true)
    expect(Number.isFinite((huge.grad as Tensor).sum().item())).toBe(true)
  })

  test("it learns the truth, and keeps no tensor", () => {
    tidy(() => {
      const { target } = drawn(10, [2, 3, 6, 6])
      target.at(0, 0).fill_(255)
      const x = randn([2, 3, 6, 6], { dtype: "float64", generator: new Generator(1) }).requiresGrad_()
      for (let step = 0; step < 300; step++) {
        tidy(() => {
          loss(x, target).backward()
          const gradient = x.grad as Tensor
          x.setData(x.detach().sub(gradient.div(gradient.abs().max().add(1e-9)), { alpha: 0.3 }))
          gradient.zero_()
        })
      }
      const wrong = aten.logical_and(x.argmax({ dim: 1 }).ne(target), target.ne(255))
      expect(wrong.sum().item()).toBe(0)
    })
  })

  test("sizes and labels that do not fit are named", () => {
    const { x, target } = drawn(11, [2, 4, 3, 2])
    expect(() => loss(x, labels([[[1]]]))).toThrow(ShapeError)
    expect(() => loss(x, target, { weight: float64([1, 2]) })).toThrow(/weight is float64\[2\].*\[4\]/)
    expect(() => loss(x, target.to({ dtype: "float32" }))).toThrow(/expected int64/)
    for (const wrong of [4, -1, 254]) {
      target.at(0, 0, 0).fill_(wrong)
      expect(() => loss(x, target)).toThrow(RangeError)
      expect(() => loss(x, target)).toThrow(`label ${wrong}; expected 0..3 or 255`)
    }
  })
})

// --- how they hang together ------------------------------------------------------------------------------------------------

const cases = fc.record({
  seed: fc.integer({ min: 0, max: 1e6 }),
  k: fc.integer({ min: 1, max: 4 }),
  h: fc.integer({ min: 1, max: 6 }),
  w: fc.integer({ min: 1, max: 6 }),
})

test("J = D / (2 - D), class by class", () => {
  fc.assert(
    fc.property(cases, ({ seed, k, h, w }) => {
      tidy(() => {
        const { x, target } = drawn(seed, [2, k, h, w])
        for (let only = 0; only < k; only++) {
          // The weights leave one class.
          const options = { eps: 0, weight: float64(Array.from({ length: k }, (_, c) => Number(c === only))) }
          if (target.eq(only).any().item() === 0) continue
          const [d, j] = [dice, jaccard].map((loss) => 1 - loss(x, target, options).item()) as [number, number]
          expect(j).toBeCloseTo(d / (2 - d), 12)
        }
      })
    }),
    { numRuns: 40 },
  )
})

test("Tversky of 1/2 and 1/2 is Dice, of 1 and 1 soft IoU", () => {
  fc.assert(
    fc.property(cases, ({ seed, k, h, w }) => {
      tidy(() => {
        const { x, target } = drawn(seed, [2, k, h, w])
        for (const eps of [0, 0.5]) {
          const half = tversky(x, target, { alpha: 0.5, beta: 0.5, eps: eps / 2 }).item()
          expect(half).toBeCloseTo(dice(x, target, { eps }).item(), 12)
          expect(tversky(x, target, { alpha: 1, beta: 1, eps }).item()).toBeCloseTo(
            jaccard(x, target, { eps }).item(),
            12,
          )
        }
      })
    }),
    { numRuns: 40 },
  )
})

test("for hard predictions Lovász-softmax is 1 - IoU, and so is soft IoU", () => {
  fc.assert(
    fc.property(cases, ({ seed, k, h, w }) => {
      tidy(() => {
        const { x, target } = drawn(seed, [2, k, h, w])
        const predicted = Array.from(x.argmax({ dim: 1 }).data(), Number)
        const actual = Array.from(target.data(), Number)
        const ious = Array.from({ length: k }, (_, c) => {
          const both = actual.filter((label, i) => label === c && predicted[i] === c).length
          const either = actual.filter((label, i) => label === c || predicted[i] === c).length
          return actual.includes(c) ? both / either : undefined
        }).filter((iou) => iou !== undefined)
        const expected = 1 - ious.reduce((sum, iou) => sum + iou, 0) / ious.length
        // Of the largest logit a thousand more than of the others: probabilities of exactly 0 and 1
        const hard = x
          .eq(x.max({ dim: 1, keepdim: true }))
          .to({ dtype: "float64" })
          .mul(1000)
        expect(lovaszSoftmax(hard, target).item()).toBeCloseTo(expected, 12)
        expect(jaccard(hard, target, { eps: 0 }).item()).toBeCloseTo(expected, 12)
      })
    }),
    { numRuns: 60 },
  )
})

/** The Lovász extension of a submodular function is the largest of sum_i m_i (f(S_i) - f(S_{i-1})) over all orders. */
function lovaszByAllOrders(probability: readonly number[], isTruth: readonly boolean[]): number {
  const iouLoss = (wrong: ReadonlySet<number>): number => {
    const both = isTruth.filter((is, i) => is && !wrong.has(i)).length
    const either = isTruth.filter((is, i) => is || wrong.has(i)).length
    return 1 - both / either
  }
  const errors = probability.map((p, i) => Math.abs(Number(isTruth[i]) - p))
  const largest = (wrong: ReadonlySet<number>): number => {
    let best = 0
    for (const [i, error] of errors.entries()) {
      if (wrong.has(i)) continue
      const more = new Set([...wrong, i])
      best = Math.max(best, error * (iouLoss(more) - iouLoss(wrong)) + largest(more))
    }
    return best
  }
  return largest(new Set())
}

test("Lovász-softmax is the largest over all orders of the pixels", () => {
  for (let seed = 0; seed < 20; seed++) {
    tidy(() => {
      const { x, target } = drawn(seed, [2, 2, 1, 3])
      const actual = Array.from(target.data(), Number)
      const p = aten.softmax_int(x, 1)
      const values = [0, 1].flatMap((k) => {
        const isTruth = actual.map((label) => label === k)
        const ofClass = p.select(1, k).contiguous().data() as Float64Array
        return isTruth.includes(true) ? [lovaszByAllOrders(Array.from(ofClass), isTruth)] : []
      })
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length
      expect(lovaszSoftmax(x, target).item()).toBeCloseTo(mean, 12)
    })
  }
})

test("a class that fills the image has no contour: hausdorff and boundary are 0", () => {
  const x = randn([1, 2, 4, 4], { dtype: "float64", generator: new Generator(1) })
  x.select(1, 0).add_(10)
  const target = aten.zeros_like(x.select(1, 0), { dtype: "int64" })
  expect(hausdorff(x, target).item()).toBe(0)
  expect(boundary(x, target).item()).toBe(0)
})

test("hausdorff: the farther an error of the same size, the worse", () => {
  const target = aten.zeros([1, 1, 12], { dtype: "int64" })
  target.at(0, 0, 0).fill_(1)
  const values = [2, 4, 8, 11].map((at) => {
    const logits = aten.zeros([1, 2, 1, 12], { dtype: "float64" })
    logits.select(1, 0).fill_(20)
    for (const x of [0, at]) {
      logits.at(0, 0, 0, x).fill_(0)
      logits.at(0, 1, 0, x).fill_(20)
    }
    return hausdorff(logits, target).item()
  })
  expect(values).toEqual(values.toSorted((a, b) => a - b))
  expect(values[3]).toBeGreaterThan(5 * (values[0] as number))
})

test("options outside their range", () => {
  expect(() => tversky(worked(), truth(), { beta: 0 })).toThrow(/alpha is 0.3, beta 0, gamma 1; expected/)
  expect(() => tversky(worked(), truth(), { alpha: -1 })).toThrow(UserError)
  expect(() => tversky(worked(), truth(), { gamma: 0 })).toThrow(UserError)
  expect(() => hausdorff(worked(), truth(), { alpha: 0 })).toThrow(/alpha is 0; expected/)
})

test("focal Tversky has a finite gradient where the prediction is perfect", () => {
  const x = float64([[[[1000, -1000]], [[-1000, 1000]]]]).requiresGrad_()
  const loss = focalTversky(x, labels([[[0, 1]]]))
  loss.backward()
  expect(loss.item()).toBeLessThan(1e-4)
  expect(gradientOf(x)).toEqual([0, 0, 0, 0])
})
