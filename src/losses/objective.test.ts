// The step's loss: identities between its ways, and sums of losses.
import fc from "fast-check"
import { afterEach, describe, expect, test } from "vitest"
import { gradcheck } from "../../tests/grad/gradcheck.ts"
import {
  aten,
  Generator,
  grad,
  levers,
  liveTensors,
  randint,
  randn,
  type Tensor,
  tensor,
  tidy,
} from "../torch/index.ts"
import { crossEntropy, reduceLosses } from "./cross-entropy.ts"
import { dice } from "./dice.ts"
import { focal } from "./focal.ts"
import { createObjective, type ObjectiveOptions, parseLoss, shrinkLabels } from "./objective.ts"

afterEach(() => {
  levers.upsampleLoss = true
})

/** Logits of a map a quarter as large as the labels, some of which are void. */
function makeCase(seed: number, { dtype = "float32" as "float32" | "float64" } = {}) {
  const generator = new Generator(seed)
  const logits = randn([2, 4, 3, 4], { generator, dtype }).mul(2)
  const labels = randint(0, 4, [2, 12, 16], { generator })
  labels.at(0, 1).fill_(255)
  const weight = tensor([0.5, 2, 1, 3], { dtype })
  return { logits, labels, weight, large: aten.upsample_bilinear2d(logits, [12, 16], false) }
}

const begin = { step: 0, progress: 0 }

const lossOf = (options: Partial<ObjectiveOptions> & { loss?: string }, logits: Tensor, labels: Tensor, step = 0) =>
  createObjective({ terms: parseLoss(options.loss ?? "cross-entropy"), ...options })(
    { logits },
    { labels },
    { step, progress: 0 },
  )

describe("parsing", () => {
  test("names, factors and sums", () => {
    expect(parseLoss("cross-entropy")).toEqual([{ name: "cross-entropy", factor: 1 }])
    expect(parseLoss("0.7 focal+0.3*lovasz-softmax")).toEqual([
      { name: "focal", factor: 0.7 },
      { name: "lovasz-softmax", factor: 0.3 },
    ])
    expect(parseLoss(" cross-entropy  +  1e-3 hausdorff ")[1]).toEqual({ name: "hausdorff", factor: 1e-3 })
  })
  test.each([
    ["cross-entorpy", /There is no loss "cross-entorpy".* Did you mean "?cross-entropy/],
    ["dice + ", /There is no loss ""/],
    ["dice - jaccard", /There is no loss "dice - jaccard"/],
    ["0 dice", /counts dice with 0; expected a factor above 0/],
    ["dice + 2 dice", /has dice twice/],
    ["constructor", /There is no loss "constructor"/],
  ])("%s", (text, message) => expect(() => parseLoss(text)).toThrow(message))
})

describe("identities", () => {
  const seeds = fc.integer({ min: 0, max: 1e6 })
  const reductions = fc.constantFrom("mean" as const, "mean-over-pixels" as const, "sum" as const)

  test("logits enlarged in passing are those enlarged before: cross-entropy and focal, weighted or not, mined or not", () => {
    const options = fc.record({
      loss: fc.constantFrom("cross-entropy", "focal"),
      isWeighted: fc.boolean(),
      reduction: reductions,
      mining: fc.constantFrom(undefined, { topK: 0.3, until: 0 }, { threshold: 0.4, minKept: 20 }),
      labelSmoothing: fc.constantFrom(0, 0.2), // of focal: has no part
    })
    fc.assert(
      fc.property(seeds, options, (seed, { isWeighted, ...rest }) =>
        tidy(() => {
          const { logits, labels, weight } = makeCase(seed)
          const run = () => {
            const x = logits.detach().requiresGrad_()
            const loss = lossOf({ ...rest, weight: isWeighted ? weight : undefined }, x, labels)
            return [loss, grad([loss], [x])[0]!] as const
          }
          levers.upsampleLoss = true
          const [passing, passingGradient] = run()
          levers.upsampleLoss = false
          const [before, beforeGradient] = run()
          expect(passing.item() / before.item()).toBeCloseTo(1, 5)
          const difference = passingGradient.sub(beforeGradient).abs().max().item()
          expect(difference).toBeLessThan(1e-5 * beforeGradient.abs().max().item())
        }),
      ),
      { numRuns: 60 },
    )
  })

  test.each(["dice", "generalized-dice", "jaccard", "tversky", "cross-entropy + jaccard", "hausdorff"])(
    "%s of small logits is that of enlarged ones",
    (loss) => {
      fc.assert(
        fc.property(seeds, fc.boolean(), fc.boolean(), (seed, isWeighted, alignCorners) =>
          tidy(() => {
            const { logits, labels, weight } = makeCase(seed)
            const options = { loss, alignCorners, weight: isWeighted ? weight : undefined, labelSmoothing: 0.1 }
            const run = (enlarge: (x: Tensor) => Tensor) => {
              const x = logits.detach().requiresGrad_()
              const value = lossOf(options, enlarge(x), labels)
              return [value.item(), grad([value], [x])[0]!] as const
            }
            const [passing, passingGradient] = run((x) => x)
            levers.upsampleLoss = false
            const [before, beforeGradient] = run((x) => aten.upsample_bilinear2d(x, [12, 16], alignCorners))
            levers.upsampleLoss = true
            expect(passing / before).toBeCloseTo(1, 5)
            const difference = passingGradient.sub(beforeGradient).abs().max().item()
            expect(difference).toBeLessThan(2e-5 * beforeGradient.abs().max().item())
          }),
        ),
        { numRuns: 20 },
      )
    },
  )

  test("focal with gamma 0 is cross-entropy, to the bit", () => {
    fc.assert(
      fc.property(seeds, reductions, (seed, reduction) =>
        tidy(() => {
          const { large, labels } = makeCase(seed)
          expect(focal(large, labels, { gamma: 0, reduction }).item()).toBe(
            reduceLosses(crossEntropy(large, labels, { reduction: "none" }), labels, { reduction }).item(),
          )
          expect(focal(large, labels, { gamma: 0, reduction }).item()).toBeCloseTo(
            crossEntropy(large, labels, { reduction }).item(),
            reduction === "sum" ? 2 : 5,
          )
        }),
      ),
      { numRuns: 30 },
    )
  })

  test("top-k of all pixels, and OHEM with threshold 1, are the plain loss", () => {
    fc.assert(
      fc.property(seeds, (seed) =>
        tidy(() => {
          const { large, labels, weight } = makeCase(seed, { dtype: "float64" })
          const plain = lossOf({}, large, labels).item()
          expect(lossOf({ mining: { topK: 1, until: 0 } }, large, labels).item()).toBeCloseTo(plain, 12)
          expect(lossOf({ mining: { topK: 0.1, until: 50 } }, large, labels, 0).item()).toBeCloseTo(plain, 12)
          expect(lossOf({ mining: { threshold: 1, minKept: 0 } }, large, labels).item()).toBeCloseTo(plain, 12)
          // With class weights each has its own denominator.
          const of = (options: Partial<ObjectiveOptions>) => lossOf({ ...options, weight }, large, labels).item()
          expect(of({ mining: { topK: 1, until: 0 } })).toBeCloseTo(of({ reduction: "mean-over-pixels" }), 12)
          for (const reduction of ["mean", "mean-over-pixels"] as const)
            expect(of({ mining: { threshold: 1, minKept: 0 }, reduction })).toBeCloseTo(of({ reduction }), 12)
        }),
      ),
      { numRuns: 30 },
    )
  })

  test("weights of 1 change nothing; doubled ones double the mean over pixels and leave PyTorch's", () => {
    tidy(() => {
      const { large, labels, weight } = makeCase(1, { dtype: "float64" })
      const ones = weight.mul(0).add(1)
      const of = (reduction: "mean" | "mean-over-pixels", weights?: Tensor) =>
        lossOf({ reduction, weight: weights }, large, labels).item()
      expect(of("mean", ones)).toBeCloseTo(of("mean"), 12)
      expect(of("mean-over-pixels", ones)).toBeCloseTo(of("mean-over-pixels"), 12)
      expect(of("mean", weight.mul(2))).toBeCloseTo(of("mean", weight), 12)
      expect(of("mean-over-pixels", weight.mul(2))).toBeCloseTo(2 * of("mean-over-pixels", weight), 12)
    })
  })
})

test("DeepLab's denominator by hand: weighted sum over the number of pixels that are not ignored", () => {
  // p of the right class: 3/4, 1/2, 7/8; weights 4, 1, 1; a fourth pixel is void
  const logits = tensor([[[[0, 0, 0, 9]], [[Math.log(3), 0, Math.log(1 / 7), 0]]]], { dtype: "float64" })
  const labels = tensor([[[1, 0, 0, 255]]], { dtype: "int64" })
  const weight = tensor([1, 4], { dtype: "float64" })
  const sum = -(4 * Math.log(3 / 4) + Math.log(1 / 2) + Math.log(7 / 8))
  expect(lossOf({ weight, reduction: "mean-over-pixels" }, logits, labels).item()).toBeCloseTo(sum / 3, 14)
  expect(lossOf({ weight }, logits, labels).item()).toBeCloseTo(sum / 6, 14)
  // Mined: the two largest of 4 pixels, weighted: 4 log(4/3) = 1.15 and log 2 = 0.69
  const mined = lossOf({ weight, mining: { topK: 0.5, until: 0 } }, logits, labels).item()
  expect(mined).toBeCloseTo((4 * Math.log(4 / 3) + Math.log(2)) / 2, 14)
})

test("a sum of losses, with the auxiliary head's", () => {
  tidy(() => {
    const { large, labels, weight } = makeCase(2, { dtype: "float64" })
    const aux = large.mul(0.5)
    const objective = createObjective({ terms: parseLoss("cross-entropy + 0.5 dice"), weight, auxWeight: 0.3 })
    const of = (logits: Tensor) =>
      crossEntropy(logits, labels, { weight }).item() + 0.5 * dice(logits, labels, { weight }).item()
    expect(objective({ logits: large, aux }, { labels }, begin).item()).toBeCloseTo(of(large) + 0.3 * of(aux), 12)
  })
})

test("an image pyramid: the merged logits' loss and that of each scale, N + 1; none has the plain loss", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1e6 }), (seed) =>
      tidy(() => {
        const { large, labels, weight } = makeCase(seed, { dtype: "float64" })
        const scales = [large.mul(0.5), large.add(0.1).abs(), large]
        const objective = createObjective({ terms: parseLoss("cross-entropy + 0.5 dice"), weight, auxWeight: 0.3 })
        const of = (output: { logits: Tensor; aux?: Tensor; scales?: Tensor[] }) =>
          objective(output, { labels }, begin).item()
        const sum = scales.reduce((total, logits) => total + of({ logits }), of({ logits: large }))
        expect(of({ logits: large, scales })).toBeCloseTo(sum, 12)
        expect(of({ logits: large, scales, aux: large })).toBeCloseTo(sum + 0.3 * of({ logits: large }), 12)
        expect(of({ logits: large, scales: [] })).toBe(of({ logits: large }))
      }),
    ),
    { numRuns: 10 },
  )
})

test("all void: 0 and a gradient of 0, whatever the loss and the mining", () => {
  const labels = tensor(
    [
      [
        [255, 255],
        [255, 255],
      ],
    ],
    { dtype: "int64" },
  )
  for (const loss of ["cross-entropy", "focal", "cross-entropy + dice"]) {
    for (const mining of loss.includes("+")
      ? [undefined]
      : [undefined, { topK: 0.5, until: 0 }, { threshold: 0.5, minKept: 3 }]) {
      const x = randn([1, 3, 1, 1], { requiresGrad: true })
      const value = lossOf({ loss, mining, labelSmoothing: loss === "focal" ? 0 : 0.1 }, x, labels)
      value.backward()
      expect(value.item()).toBe(0)
      expect((x.grad as Tensor).abs().max().item()).toBe(0)
    }
  }
})

test("gradients of mined, weighted and smoothed losses: full Jacobian in float64", () => {
  const { logits, labels, weight } = makeCase(3, { dtype: "float64" })
  const x = logits.detach().requiresGrad_()
  for (const options of [
    { mining: { topK: 0.3, until: 0 }, weight },
    { mining: { threshold: 0.3, minKept: 10 }, weight },
    { labelSmoothing: 0.2, weight, reduction: "mean-over-pixels" as const },
    { loss: "focal", focalGamma: 0.5 },
  ])
    expect(gradcheck(() => lossOf(options, x, labels), [x])).toBe(96)
})

test("keeps no tensor, whatever is asked for", () => {
  const { logits, labels, weight } = makeCase(6)
  const x = logits.detach().requiresGrad_()
  const step = (options: Parameters<typeof lossOf>[0]) => tidy(() => lossOf(options, x, labels).backward())
  step({}) // makes the gradient
  const before = liveTensors()
  for (const mining of [undefined, { topK: 0.3, until: 0 }, { threshold: 0.4 }]) {
    for (const upsampleLogits of [true, false]) {
      for (const loss of ["cross-entropy", "focal", "cross-entropy + 0.5 dice"]) {
        for (const labelSmoothing of [0, 0.1]) step({ loss, mining, upsampleLogits, labelSmoothing, weight })
      }
    }
  }
  expect(liveTensors()).toBe(before)
})

describe("labels made small", () => {
  test("each is the nearest, corners on corners", () => {
    const labels = tensor(
      [
        [
          [0, 1, 2, 3, 4],
          [5, 6, 7, 8, 9],
          [10, 11, 12, 13, 14],
        ],
      ],
      { dtype: "int64" },
    )
    const shrunk = (size: readonly [number, number], alignCorners: boolean) =>
      Array.from(shrinkLabels(labels, size, { alignCorners }).data() as BigInt64Array, Number)
    expect(shrunk([2, 3], true)).toEqual([0, 2, 4, 10, 12, 14])
    expect(shrunk([1, 2], true)).toEqual([0, 4])
    // F.interpolate(torch.arange(15.).view(1, 1, 3, 5), size, mode="nearest-exact"), torch 1.13
    expect(shrunk([2, 3], false)).toEqual([0, 2, 4, 10, 12, 14])
    expect(shrunk([1, 2], false)).toEqual([6, 8])
    expect(shrunk([2, 4], false)).toEqual([0, 1, 3, 4, 10, 11, 13, 14])
    for (const alignCorners of [true, false]) expect(shrunk([3, 5], alignCorners)).toEqual([...Array(15).keys()])
  })

  test("the loss is that of the small logits and labels", () => {
    tidy(() => {
      const { logits, labels } = makeCase(4)
      const small = shrinkLabels(labels, [3, 4])
      expect(lossOf({ upsampleLogits: false }, logits, labels).item()).toBe(crossEntropy(logits, small).item())
    })
  })
})

test("weights of other classes are refused, also where logits are enlarged in passing", () => {
  const { logits, labels } = makeCase(5)
  for (const loss of ["cross-entropy", "focal"]) {
    expect(() => lossOf({ loss, weight: tensor([1, 1, 1, 1, 1]) }, logits, labels)).toThrow(
      /weight is float32\[5\].*expected one weight per class, \[4\]/,
    )
  }
})

test("a label outside the classes is named, also where logits are enlarged in passing", () => {
  const labels = randint(0, 4, [2, 12, 16])
  labels.at(1, 2, 3).fill_(7)
  expect(() => lossOf({}, randn([2, 4, 3, 4]), labels)).toThrow(/target has label 7; expected 0..3 or 255/)
})

describe("a matte takes the place of labels", () => {
  const values = [
    [0, 1],
    [0.5, 255],
  ]
  const labels = tensor([values.map((row) => row.map((value) => Math.round(value)))], { dtype: "int64" })
  const alpha = tensor([values], { dtype: "float64" })
  const logits = randn([1, 2, 2, 2], { dtype: "float64", generator: new Generator(6) })
  const logP = aten.log_softmax_int(logits, 1).data() as Float64Array // background 0..3, object 4..7
  const each = [-logP[0]!, -logP[5]!, -0.5 * (logP[2]! + logP[6]!)]
  const of = (options: Partial<ObjectiveOptions> & { loss?: string }, x = logits) =>
    createObjective({ terms: parseLoss(options.loss ?? "cross-entropy"), ...options })(
      { logits: x },
      { labels, alpha },
      begin,
    )

  test("with the target's [1 - a, a], times the factor", () => {
    tidy(() => {
      const mean = (each[0]! + each[1]! + each[2]!) / 3
      expect(of({}).item()).toBeCloseTo(mean, 12)
      expect(of({ loss: "0.5 cross-entropy" }).item()).toBeCloseTo(mean / 2, 12)
    })
  })

  test("the hardest half of its four pixels", () => {
    const [first, second] = each.toSorted((a, b) => b - a)
    tidy(() => expect(of({ mining: { topK: 0.5, until: 0 } }).item()).toBeCloseTo((first! + second!) / 2, 12))
  })

  test("made as small as the logits", () => {
    tidy(() => {
      const x = logits.narrow(2, 0, 1) // [1, 2, 1, 2]: the upper row of the matte is left
      expect(of({ upsampleLogits: false, alignCorners: true }, x).item()).toBeCloseTo((each[0]! + each[1]!) / 2, 12)
    })
  })

  test.each([
    [{ loss: "dice" }, /expected the loss cross-entropy/],
    [{ loss: "cross-entropy + dice" }, /expected the loss cross-entropy/],
    [{ labelSmoothing: 0.1 }, /without smoothing/],
    [{ mining: { threshold: 0.7 } }, /of all pixels or the top k/],
    [{ weight: tensor([1, 2], { dtype: "float64" }) }, /class weights are given/],
  ])("not %j", (options, message) => expect(() => of(options)).toThrow(message))
})

test("OHEM keeps a sixteenth of the pixels that are compared, of small labels too", () => {
  tidy(() => {
    // 32 pixels, none improbable: the two least probable remain
    const nll = Array.from({ length: 32 }, (_, i) => 0.01 + i / 1000)
    const x = nll.map((loss) => Math.log(Math.expm1(loss))) // of class 1, where class 0 is right
    const logits = tensor([[[x.map(() => 0)], [x]]], { dtype: "float64" })
    const labels = randint(0, 1, [1, 3, 96])
    const loss = lossOf({ mining: { threshold: 1e-3 }, upsampleLogits: false }, logits, labels)
    expect(loss.item()).toBeCloseTo((nll[31]! + nll[30]!) / 2, 12)
  })
})
