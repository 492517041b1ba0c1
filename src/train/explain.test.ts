// What an explanation says, against DeepLab's facts worked out by hand. That a run does the same: tests/e2e/explain.test.ts.
import fc from "fast-check"
import { expect, test } from "vitest"
import "../../tests/property-seed.ts"
import { createModel } from "../models/index.ts"
import { tidy } from "../torch/index.ts"
import { modelOptions, parseConfig, type TrainConfig } from "./config.ts"
import { cornersOf, difference, type Explanation, explain, type Known } from "./explain.ts"
import { explainConfig } from "./explain-config.ts"
import { applyToLayers, lengthOf, resolveOpen } from "./prepare.ts"

const small = { model: "lraspp", encoder: "mobilenet_v2_0.35" }
const config = (given: object) => parseConfig({ data: "none", ...small, ...given })
const of = (given: object, options: object = {}) => explainConfig(config(given), { hasData: false, ...options })
const deepLab = (given: object = {}) => of({ protocol: "tf-deeplab", ...given })

function factsOf(explanation: Explanation, title: string): Record<string, unknown> {
  const section = explanation.sections.find((one) => one.title.startsWith(title))
  return Object.fromEntries(section!.facts.map(({ name, value }) => [name, value]))
}
const textOf = (explanation: Explanation, name: string) =>
  explanation.sections.flatMap(({ facts }) => facts).find((fact) => fact.name === name)?.text

test("DeepLab's learning rate at its corners, slow start of 1,000 in 30,000", async () => {
  const { schedule: _, ...rates } = factsOf(await deepLab({ slowStart: 1000 }), "Learning rate")
  const at = (step: number, rate: number) => ({ step, rate: expect.closeTo(rate, 15) })
  // 0.007 (1 - g / 29,000)^0.9, g = step - 1,000
  expect(rates).toEqual({
    "first step": at(0, 1e-4),
    "last slow step": at(999, 1e-4),
    "schedule begins": at(1000, 0.007),
    "the step after": at(1001, 0.007 * (28_999 / 29_000) ** 0.9),
    "a quarter": at(7500, 0.007 * (22_500 / 29_000) ** 0.9),
    half: at(15_000, 0.007 * (15_000 / 29_000) ** 0.9),
    "three quarters": at(22_500, 0.007 * (7_500 / 29_000) ** 0.9),
    "last step": at(29_999, 0.007 * (1 / 29_000) ** 0.9),
  })
})

test("DeepLab's parameters on LR-ASPP: biases twice, last layers ten times, both twenty; what does not decay", async () => {
  const explanation = await of({ protocol: "tf-deeplab", lastLayerMultiplier: 10 }, { parameters: true })
  const parameters = Object.entries(factsOf(explanation, "Each parameter")) as [string, Record<string, unknown>][]
  expect(parameters.length).toBe(39 + 17 + 106 + 2)
  for (const [name, { kind, rate, gradient, weightDecay, learns }] of parameters) {
    const isLast = !name.startsWith("backbone.")
    const isBias = name.endsWith("classifier.bias")
    expect(gradient, name).toBe((isLast ? 10 : 1) * (isBias ? 2 : 1))
    expect([rate, learns], name).toEqual([1, true])
    // The weights of the encoder's and the head's convolutions decay; batch-norm, biases and depthwise weights do not.
    expect(weightDecay, name).toBe(kind === "weight" ? 4e-5 : 0)
    expect(kind, name).toBe(isBias ? "bias" : kind)
  }
  const kinds = Object.groupBy(parameters, ([, { kind }]) => kind as string)
  expect(Object.fromEntries(Object.entries(kinds).map(([kind, all]) => [kind, all!.length]))).toEqual({
    // 17 blocks: a depthwise convolution each, and two 1x1 ones (the first block has one); stem and last; 2 of the head, 2 of the logits
    "depthwise weight": 17,
    weight: 16 * 2 + 1 + 2 + 4,
    norm: 2 * (16 * 3 + 2 + 2 + 1),
    bias: 2,
  })
  expect(factsOf(explanation, "Parameters")).toMatchObject({
    "encoder, weights": { tensors: 35, rate: 1, gradient: 1, weightDecay: 4e-5, learns: true },
    "encoder, depthwise weights": { tensors: 17, gradient: 1, weightDecay: 0 },
    "encoder, norms": { tensors: 104, gradient: 1, weightDecay: 0 },
    "head, weights": { tensors: 2, gradient: 10, weightDecay: 4e-5 },
    "head, norms": { tensors: 2, gradient: 10, weightDecay: 0 },
    "logits, weights": { tensors: 2, numbers: 21 * (128 + 16), gradient: 10, weightDecay: 4e-5 },
    "logits, biases": { tensors: 2, numbers: 42, gradient: 20, weightDecay: 0 },
  })
  const groups = Object.entries(factsOf(explanation, "Parameters")) as [string, { numbers?: number }][]
  using model = tidy(() => createModel("lraspp", { encoder: "mobilenet_v2_0.35", numClasses: 21 }))
  expect(groups.reduce((sum, [, { numbers = 0 }]) => sum + numbers, 0)).toBe(
    model.parameters().reduce((sum, { numel }) => sum + numel, 0),
  )
})

test("DeepLab's preprocessing, in order", async () => {
  const facts = factsOf(await deepLab(), "Preprocessing")
  expect(Object.keys(facts)).toEqual(["scale", "coordinates", "padding", "crop", "left-right flip", "normalisation"])
  expect(facts).toMatchObject({
    scale: { factors: [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2], fill: false },
    coordinates: { alignCorners: true },
    padding: { pixel: [127.5, 127.5, 127.5], normalized: [0, 0, 0], mask: 255 },
    crop: { size: [513, 513] },
    "left-right flip": 0.5,
    normalisation: { name: "symmetric", mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
  })
})

test("torchvision's preprocessing: padding is black before it is normalised", async () => {
  const facts = factsOf(await of({ protocol: "torchvision", steps: 10 }), "Preprocessing")
  expect(Object.keys(facts)[0]).toBe("resize")
  // (0 - mean) / std
  expect(facts.padding).toEqual({ pixel: [0, 0, 0], normalized: [-2.117904, -2.035714, -1.804444], mask: 255 })
  expect(facts.scale).toEqual({ from: 0.5, to: 2, fill: false })
})

test("every transform is named, in order", async () => {
  const all = {
    ...{ resizeRange: [100, 200], rotation: [-5, 5], verticalFlip: 0.1, brightness: 0.4, grayscale: 0.1, blur: 0.2 },
    ...{ cropClasses: ["rare"], steps: 1 },
  }
  const explanation = await of(all)
  expect(Object.keys(factsOf(explanation, "Preprocessing"))).toEqual([
    ...["resize", "scale", "coordinates", "rotation", "padding", "crop", "left-right flip", "up-down flip", "colour"],
    ...["grey", "blur", "normalisation"],
  ])
  expect(textOf(explanation, "padding")).toMatch(/^beside what is rotated: /)
  expect(textOf(explanation, "colour")).toBe("brightness x 0.6 to 1.4, in random order")
  expect(textOf(explanation, "crop")).toContain("with probability 0.5 on a pixel of rare")
})

test("the share of mined pixels falls in a line to top-k", async () => {
  const facts = factsOf(await deepLab({ topK: 0.25, miningSteps: 1000 }), "Loss")
  expect(facts).toMatchObject({
    "mined first": { step: 0, share: 1 },
    "mined half way": { step: 500, share: 0.625 },
    "mined one step before": { step: 999, share: expect.closeTo(0.25 + 0.75 / 1000, 12) },
    "mined from then on": { step: 1000, share: 0.25 },
    "mined last step": { step: 29_999, share: 0.25 },
    "void pixels": { gradient: 0, countedInShare: true },
  })
  expect(facts.denominator).toBe(
    "sum of the k largest loss / number of those that are not 0, k = trunc(share x pixels)",
  )
})

test("under a time budget it falls in a share of the run, or in steps", async () => {
  const budget = { steps: null, budget: "1h", topK: 0.25 }
  const facts = factsOf(await deepLab({ ...budget, miningSteps: 0.5 }), "Loss")
  expect(facts).toMatchObject({
    "mined first": { progress: 0, share: 1 },
    "mined half way": { progress: 0.25, share: 0.625 },
    "mined from then on": { progress: 0.5, share: 0.25 },
  })
  expect(facts["mined last step"]).toBeUndefined()
  expect(factsOf(await deepLab({ ...budget, miningSteps: 100 }), "Loss")).toMatchObject({
    "mined half way": { step: 50, share: 0.625 },
    "mined from then on": { step: 100, share: 0.25 },
  })
})

test.each([
  [{}, "sum(loss) / number of pixels that are not void"],
  [{ classWeights: "median" }, "sum(weight x loss) / sum(weight), over pixels that are not void"],
  [{ classWeights: "median", weightReduction: "pixels" }, "sum(weight x loss) / number of pixels that are not void"],
  [
    { ohemThreshold: 0.7, ohemMinKept: 9 },
    /^sum\(loss\) \/ number of pixels that are hard; hard: .* 0.7, but at least 9 pixels$/,
  ],
  [{ loss: "dice" }, undefined],
])("denominators: %o", async (given, expected) => {
  const { denominator } = factsOf(await of({ steps: 10, ...given }), "Loss")
  expect(denominator).toEqual(expected instanceof RegExp ? expect.stringMatching(expected) : expected)
})

test("what batch-norm still has of its beginning: 55 % after 2,000 steps of DeepLab's decay", async () => {
  const explanation = await deepLab({ steps: 2000 })
  const norms = factsOf(explanation, "Batch-norm")
  expect(norms["that learn"]).toEqual({ layers: 53, momentum: 0.0003, initialShare: expect.closeTo(0.54876, 5) })
  expect(explanation.notices.join()).toContain("55 % of the running statistics")
  expect((await deepLab()).notices).toEqual([])
  // Two batches a step count twice.
  const twice = await deepLab({ steps: 1000, accumulate: 2 })
  expect(factsOf(twice, "Batch-norm")["that learn"]).toEqual(norms["that learn"])
  expect(factsOf(twice, "Run").batch).toEqual({ images: 8, batches: 2, imagesPerStep: 16 })
})

test("frozen layers do not learn, and are named apart", async () => {
  const explanation = await of({ steps: 10, batchNorm: "frozen" })
  expect(factsOf(explanation, "Batch-norm")).toMatchObject({ frozen: 52, "that learn": { layers: 1 } })
})

test("a time budget has shares instead of steps", async () => {
  const explanation = await deepLab({ budget: "90s", slowStart: 0.1 })
  expect(explanation.steps).toBeNull()
  const { schedule: _, ...rates } = factsOf(explanation, "Learning rate")
  expect(rates).toEqual({
    "first step": { share: 0, rate: expect.closeTo(1e-4, 15) },
    "schedule begins": { share: 0.1, rate: expect.closeTo(0.007, 15) },
    "a quarter": { share: 0.25, rate: expect.closeTo(0.007 * (0.75 / 0.9) ** 0.9, 15) },
    half: { share: 0.5, rate: expect.closeTo(0.007 * (0.5 / 0.9) ** 0.9, 15) },
    "three quarters": { share: 0.75, rate: expect.closeTo(0.007 * (0.25 / 0.9) ** 0.9, 15) },
    end: { share: 1, rate: 0 },
  })
})

test("steps cannot be placed in epochs of unknown length", async () => {
  await expect(of({ epochs: 3, schedule: "step", stepSize: 20 })).rejects.toThrow(
    "stepSize is 20 steps, but how many there are in 3 epochs depends on the data: give data, or a length in steps.",
  )
  expect((await of({ epochs: 3, schedule: "step", stepSize: 0.5 })).steps).toBeNull()
})

test("corners are the first steps of what they name, each once, in a run of any length", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 500 }),
      fc.option(fc.double({ min: 0.01, max: 0.9, noNaN: true }), { nil: null }),
      fc.uniqueArray(fc.double({ min: 0.01, max: 0.99, noNaN: true }), { minLength: 1, maxLength: 4 }),
      (steps, slowStart, milestones) => {
        const corners = cornersOf(config({ schedule: "multi-step", milestones, slowStart, steps }), steps)
        const places = corners.map(({ at }) => at.step)
        expect(places).toEqual([...new Set(places)].toSorted((a, b) => a - b))
        expect(places[0]).toBe(0)
        expect(places.at(-1)).toBe(steps - 1)
        for (const { at } of corners) expect(at).toEqual({ step: at.step, steps, progress: at.step / steps })
      },
    ),
  )
})

test("a rate falls at its corner, and not a step earlier", async () => {
  const falls = { schedule: "multi-step", milestones: [0.3, 80], steps: 97, learningRate: 1, warmup: 0 }
  const rates = factsOf(await of(falls), "Learning rate")
  expect(rates).toMatchObject({
    "before milestones 1": { step: 29, rate: 1 },
    "milestones 1": { step: 30, rate: 0.1 }, // 29.1 is not a step
    "before milestones 2": { step: 79, rate: 0.1 },
    "milestones 2": { step: 80, rate: expect.closeTo(0.01, 15) },
  })
})

test("of two, exactly the options that were changed, and what comes of them", async () => {
  const a = await deepLab()
  const b = await deepLab({ learningRate: 0.01, biasMultiplier: 4, crop: 321 })
  const { options, facts } = difference(a, b)
  expect(options).toEqual([
    { key: "learningRate", a: 0.007, b: 0.01 },
    { key: "biasMultiplier", a: 2, b: 4 },
    { key: "crop", a: [513, 513], b: [321, 321] },
  ])
  expect(facts.map(({ section, name }) => `${section.split(" ")[0]}: ${name}`)).toEqual([
    "Preprocessing: crop",
    ...["schedule", "first step", "a quarter", "half", "three quarters", "last step"].map(
      (name) => `Learning: ${name}`,
    ),
    "Parameters: logits, biases",
  ])
  expect(difference(a, a)).toEqual({ options: [], facts: [] })
  const onlyOne = difference(a, await deepLab({ verticalFlip: 0.5 }))
  expect(onlyOne.facts).toMatchObject([{ name: "up-down flip", a: null, b: { value: 0.5 } }])
})

// For each option: what is given to both, and another value. null: nothing that this command speaks of.
const others: Record<keyof TrainConfig, readonly [both: object, value: unknown] | null> = {
  protocol: [{}, "tf-deeplab"],
  data: null,
  trainSplit: null,
  valSplit: null,
  classes: [{}, ["a", "b"]],
  others: null, // the data's business
  groundTruth: [{}, "alpha"],
  model: [{}, "deeplabv3"],
  encoder: [{}, "mobilenet_v2"],
  outputStride: [{}, 8],
  multiGrid: [{ encoder: "resnet50" }, [1, 2, 4]],
  atrousRates: [{ model: "deeplabv3" }, [3, 6]],
  aux: [{ model: "deeplabv3" }, true],
  auxWeight: [{ model: "deeplabv3", aux: true }, 0.7],
  imagePyramid: [{}, [0.5, 1]],
  pyramidMerge: [{ imagePyramid: [0.5, 1] }, "average"],
  width: [{ model: "unet", encoder: null, depth: 2 }, 8],
  depth: [{ model: "unet", encoder: null, width: 8 }, 2],
  upsampling: [{ model: "unet", encoder: null, width: 8, depth: 2 }, "bilinear"],
  weights: [{ encoder: "mobilenet_v2" }, "mobilenet_v2"],
  initFrom: null, // a file is wanted; tests/e2e/initialize.test.ts
  initializeLastLayer: null,
  freeze: [{ encoder: "mobilenet_v2", weights: "mobilenet_v2" }, 8],
  batchNorm: [{}, "frozen"],
  batchNormMomentum: [{}, 0.01],
  batchNormBatches: [{}, 0],
  syncBatchNorm: [{}, true],
  normalization: [{}, "symmetric"],
  padding: [{}, "tensorflow"],
  loss: [{}, "dice"],
  classWeights: [{}, "median"],
  effectiveBeta: [{ classWeights: "effective" }, 0.9],
  weightReduction: [{ classWeights: "median" }, "pixels"],
  labelSmoothing: [{}, 0.1],
  focalGamma: [{ loss: "focal" }, 3],
  topK: [{}, 0.5],
  miningSteps: [{ topK: 0.5 }, 4],
  ohemThreshold: [{}, 0.5],
  ohemMinKept: [{ ohemThreshold: 0.5 }, 3],
  upsampleLogits: [{}, false],
  optimizer: [{}, "sgd"],
  learningRate: [{}, 0.1],
  headRate: [{}, 4],
  auxRate: [{ model: "deeplabv3", aux: true }, 4],
  momentum: [{ optimizer: "sgd" }, 0.5],
  nesterov: [{ optimizer: "sgd" }, true],
  betas: [{}, [0.5, 0.6]],
  eps: [{}, 0.1],
  weightDecay: [{}, 0.1],
  decayExempt: [{}, "deeplab"],
  biasMultiplier: [{ multiplierForm: "rate", lastLayerMultiplier: 3 }, 2],
  lastLayerMultiplier: [{ multiplierForm: "rate", biasMultiplier: 2 }, 3],
  lastLayers: [{ multiplierForm: "rate", lastLayerMultiplier: 3 }, "logits"],
  multiplierForm: [{ multiplierForm: "rate", biasMultiplier: 2 }, "gradient"],
  layerDecay: [{}, 0.5],
  clipNorm: [{}, 1],
  clipValue: [{}, 1],
  accumulate: [{}, 2],
  schedule: [{}, "cosine"],
  power: [{}, 2],
  endLearningRate: [{}, 1e-5],
  decaySteps: [{}, 0.5],
  stepSize: [{ schedule: "step", stepSize: 7 }, 5],
  milestones: [{ schedule: "multi-step", milestones: [7] }, [5]],
  gamma: [{ schedule: "step", stepSize: 7 }, 0.5],
  peakAt: [{ schedule: "one-cycle" }, 0.5],
  restartEvery: [{ schedule: "warm-restarts", restartEvery: 7 }, 5],
  restartGrowth: [{ schedule: "warm-restarts", restartEvery: 7 }, 2],
  slowStart: [{}, 3],
  slowStartLearningRate: [{ slowStart: 3 }, 1e-5],
  slowStartForm: [{ slowStart: 3 }, "linear"],
  warmup: [{}, 0.5],
  average: [{}, 0],
  batchSize: [{}, 3],
  crop: [{}, [64, 96]],
  resizeRange: [{}, [100, 200]],
  resizeFactor: [{ resizeRange: [100, 200] }, 16],
  scale: [{}, [1, 2]],
  scaleStep: [{}, 0.5],
  fill: [{}, false],
  alignCorners: [{}, true],
  rotation: [{}, [-5, 5]],
  rotationProbability: [{ rotation: [-5, 5] }, 0.5],
  padPixel: [{ fill: false }, [1, 2, 3]],
  cropClasses: [{}, ["rare"]],
  classCrop: [{ cropClasses: ["rare"] }, 0.9],
  flip: [{}, 0],
  verticalFlip: [{}, 0.5],
  brightness: [{}, 0.1],
  contrast: [{}, 0.1],
  saturation: [{}, 0.1],
  hue: [{}, 0.1],
  grayscale: [{}, 0.1],
  blur: [{}, 0.1],
  blurSigma: [{ blur: 0.1 }, [1, 2]],
  steps: [{}, 30],
  epochs: [{ steps: null, epochs: 2 }, 3],
  budget: [{ steps: null, budget: 60 }, 90],
  evaluations: [{}, 3],
  precision: [{}, "bfloat16"],
  seed: [{}, 3],
  workers: null,
  device: null,
  cudaGraph: null, // what is computed is the same
  threads: null,
  cache: null,
}

test.each(Object.keys(others) as (keyof TrainConfig)[])("%s: another value is seen in what is told", async (key) => {
  if (others[key] === null) return
  const [both, value] = others[key]
  const [a, b] = [await of({ steps: 20, ...both }), await of({ steps: 20, ...both, [key]: value })]
  const { options, facts } = difference(a, b)
  expect(options.map((option) => option.key)).toContain(key)
  expect(facts).not.toEqual([])
})

test("published weights are known without a download, and those of another model refused", async () => {
  const given = { encoder: "resnet50", model: "deeplabv3", weights: "resnet50", steps: 10 }
  const explanation = await of(given)
  expect(explanation.config).toMatchObject({ freeze: 4, headRate: 10, batchNorm: "train", normalization: "imagenet" })
  expect(explanation.config).toMatchObject({
    learningRate: 2e-4,
    loss: "cross-entropy + jaccard",
    labelSmoothing: 0.05,
  })
  expect(explanation.config).toMatchObject({ brightness: 0.3, contrast: 0.3, saturation: 0.3 })
  const plain = await of({ model: "deeplabv3", encoder: "resnet18", steps: 10 })
  expect(plain.config).toMatchObject({ freeze: 0, headRate: null, learningRate: 1e-3, brightness: 0 })
  expect(plain.config).toMatchObject({ loss: "cross-entropy", labelSmoothing: 0 })
  const own = {
    learningRate: 0.1,
    headRate: 2,
    freeze: 0,
    brightness: 0,
    contrast: 0.1,
    saturation: 0,
    labelSmoothing: 0,
  }
  expect((await of({ ...given, ...own })).config).toMatchObject(own)
  expect((await of({ ...given, loss: "focal" })).config).toMatchObject({ loss: "focal", labelSmoothing: 0 })
  const groups = factsOf(explanation, "Parameters")
  expect(groups["encoder, weights, frozen"]).toMatchObject({ learns: false })
  expect(groups["head, weights"]).toMatchObject({ learns: true, rate: 10 })
  await expect(of({ ...given, encoder: "resnet18" })).rejects.toThrow(
    "The weights resnet50 are for the encoder resnet50; this model has resnet18.",
  )
})

test("all of it is plain data", async () => {
  const explanation = await of({ steps: 5, topK: 0.5, betas: [0.8, 0.9] }, { parameters: true })
  expect(JSON.parse(JSON.stringify(explanation))).toEqual(explanation)
})

test("without the assembly: pure, and the model stays the caller's", () => {
  const resolved = resolveOpen(config({ steps: 4 }), null)
  using model = tidy(() => createModel(resolved.model, { ...modelOptions(resolved), numClasses: 2 }))
  applyToLayers(resolved, model)
  const known: Known = { model, classes: ["no", "yes"], length: lengthOf(resolved, 1), data: null }
  expect(explain(resolved, known)).toEqual(explain(resolved, known))
  expect(factsOf(explain(resolved, known), "Run").classes).toEqual(["no", "yes"])
})
