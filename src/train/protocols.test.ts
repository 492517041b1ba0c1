// What a protocol sets, what wins over it, and that it leaves nobody with an error about what they did not say.
import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { createModel, type ModelName, models, takesOption } from "../models/index.ts"
import { tidy } from "../torch/index.ts"
import { configFields, modelOptions, parseConfig } from "./config.ts"
import { settingsOf } from "./parameter-groups.ts"
import { applyToLayers, refuseIdleOptions, resolveOpen } from "./prepare.ts"
import { protocolNames, protocols } from "./protocols.ts"

const data = "somewhere"

test("tf-deeplab is the flags of TensorFlow's DeepLab", () => {
  expect(parseConfig({ data, protocol: "tf-deeplab" })).toMatchObject({
    protocol: "tf-deeplab",
    model: "deeplabv3plus",
    encoder: "mobilenet_v2",
    outputStride: 16,
    atrousRates: null, // 6, 12, 18 at that stride
    optimizer: "sgd",
    momentum: 0.9,
    nesterov: false,
    learningRate: 0.007,
    schedule: "poly",
    power: 0.9,
    endLearningRate: 0,
    decaySteps: null,
    warmup: 0,
    slowStart: null,
    weightDecay: 4e-5,
    decayExempt: "deeplab",
    biasMultiplier: 2,
    lastLayerMultiplier: 1,
    multiplierForm: "gradient",
    steps: 30_000,
    epochs: null,
    budget: null,
    batchSize: 8,
    crop: [513, 513],
    scale: [0.5, 2],
    scaleStep: 0.25,
    fill: false,
    padPixel: null, // the mean
    flip: 0.5,
    alignCorners: true,
    normalization: "symmetric",
    topK: null,
    upsampleLogits: true,
    batchNorm: "auto", // which trains
    batchNormMomentum: 0.0003,
    batchNormBatches: 0,
    average: 0,
    freeze: 0,
    imagePyramid: null,
  })
})

test("torchvision is the defaults of its reference script, with its auxiliary head", () => {
  const config = parseConfig({ data, protocol: "torchvision" })
  expect(config).toMatchObject({
    model: "fcn",
    encoder: "resnet50",
    outputStride: 8,
    aux: true,
    auxWeight: 0.5,
    optimizer: "sgd",
    learningRate: 0.01,
    momentum: 0.9,
    weightDecay: 1e-4,
    decayExempt: "none",
    schedule: "poly",
    power: 0.9,
    warmup: 0,
    epochs: 30,
    steps: null,
    batchSize: 8,
    crop: [480, 480],
    scale: [0.5, 2],
    scaleStep: 0,
    padPixel: [0, 0, 0],
    flip: 0.5,
    normalization: "imagenet",
    batchNormMomentum: 0.1,
  })
  expect(config.resizeRange?.[0]).toBe(520)
  const aux = { name: "aux_classifier.4.bias", kind: "bias", isLogits: true, isAux: true, stagesLeft: 0, learns: true }
  expect(settingsOf(aux as never, config)).toEqual({ rate: 10, gradient: 1, weightDecay: 1e-4 })
})

test("what is given wins, and what is not given stays at its default", () => {
  const config = parseConfig({ data, protocol: "tf-deeplab", learningRate: 0.1, crop: 321, multiplierForm: "rate" })
  expect(config).toMatchObject({ learningRate: 0.1, crop: [321, 321], multiplierForm: "rate", momentum: 0.9 })
  const plain = parseConfig({ data })
  for (const key of Object.keys(configFields) as (keyof typeof plain)[]) {
    if (key === "protocol" || key === "learningRate" || key === "crop" || key === "multiplierForm") continue
    if (key === "budget") continue // its default is for who gives no length
    if (!(key in protocols["tf-deeplab"])) expect(config[key], key).toEqual(plain[key])
  }
  expect(parseConfig({ data, protocol: null })).toEqual(plain)
})

test.each([
  [{ budget: "90s" }, { steps: null, epochs: null, budget: 90 }],
  [{ steps: 7 }, { steps: 7, epochs: null, budget: null }],
  [{ epochs: 2 }, { steps: null, epochs: 2, budget: null }],
  [
    { steps: null, epochs: null },
    { steps: null, epochs: null, budget: 600 },
  ],
])("a length that is given, %o, replaces that of every protocol", (length, expected) => {
  for (const protocol of protocolNames) {
    // A length in the protocol's own kind that is turned off, and no other: ten minutes, as without a protocol.
    expect(parseConfig({ data, protocol, ...length }), protocol).toMatchObject(expected)
  }
})

test.each(protocolNames)("%s: a configuration that is kept means the same when it is read again", (protocol) => {
  for (const given of [{}, { model: "unet" }, { classWeights: "median" }, { schedule: "constant", steps: 9 }]) {
    const config = parseConfig({ data, protocol, ...given })
    expect(parseConfig(config)).toEqual(config)
    expect(parseConfig(JSON.parse(JSON.stringify(config)))).toEqual(config)
  }
})

// What goes with another choice than the user's is left out, instead of being refused in the user's name.
test.each([
  [{ schedule: "cosine" }, { power: null, endLearningRate: 0 }],
  [{ schedule: "constant" }, { power: null, endLearningRate: null }],
  [{ schedule: "one-cycle" }, { power: null, warmup: 0 }],
  [{ weightDecay: 0 }, { decayExempt: "none" }],
  [{ model: "unet" }, { encoder: null, outputStride: null }],
  [{ encoder: "vgg16" }, { model: expect.anything(), outputStride: null }],
  [{ optimizer: "adamw" }, { optimizer: "adamw" }],
  [{ slowStart: 0.01 }, { slowStart: 0.01, warmup: 0 }],
  [{ fill: true }, { padPixel: null }],
  [{ fill: true, rotation: [-5, 5] }, { fill: true }],
  [{ weights: "x" }, { normalization: null, headRate: 1 }],
  [{ initFrom: "x" }, { normalization: null, headRate: null }],
  [{ aux: false }, { auxWeight: null, auxRate: null }],
  [{ lastLayerMultiplier: 10, multiplierForm: "gradient" }, { headRate: null }],
  [{ groundTruth: "alpha" }, { weightReduction: "weights" }],
])("options that %o leaves without work are not set", (given, expected) => {
  for (const protocol of protocolNames) expect(parseConfig({ data, protocol, ...given })).toMatchObject(expected)
})

test("what DeepLab divides by counts as soon as there are class weights", () => {
  const reduction = (given: object) => parseConfig({ data, protocol: "tf-deeplab", ...given }).weightReduction
  expect(reduction({})).toBe("weights")
  expect(reduction({ classWeights: "median" })).toBe("pixels")
  expect(reduction({ classWeights: "median", weightReduction: "weights" })).toBe("weights")
  expect(reduction({ classWeights: "median", topK: 0.5 })).toBe("weights") // mining divides by its own count
})

test("biases count twice until that is turned off", () => {
  const form = (given: object) => parseConfig({ data, protocol: "tf-deeplab", ...given }).multiplierForm
  expect([form({}), form({ biasMultiplier: 1 }), form({ biasMultiplier: 3 })]).toEqual(["gradient", null, "gradient"])
  expect(form({ biasMultiplier: 1, lastLayerMultiplier: 10 })).toBe("gradient")
})

test("a conflict with the protocol says that it is the protocol's", () => {
  expect(() => parseConfig({ data, protocol: "tf-deeplab", classWeights: "median", loss: "dice" })).toThrow(
    'Option "weightReduction" of the protocol tf-deeplab is about losses of pixels, and dice has none.',
  )
  expect(() => parseConfig({ data, protocol: "tf-deeplab", power: -1 })).toThrow('Option "power" is -1')
  expect(() => parseConfig({ data, protocol: "tf-deplab" })).toThrow(
    'Option "protocol" is "tf-deplab": expected one of "tf-deeplab"|"torchvision". Did you mean "tf-deeplab"?',
  )
})

test("every option of train that docs/deeplab.md names is one", () => {
  const text = readFileSync(new URL("../../docs/deeplab.md", import.meta.url), "utf8")
  const named = [...text.matchAll(/(?<!eval )--([a-z][a-z-]+)/g)].map(([, name]) => name!)
  const kebab = (key: string) => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  const known = Object.keys(configFields).map(kebab)
  expect(named.length).toBeGreaterThan(50)
  expect(named.filter((name) => !known.includes(name))).toEqual([])
})

const small = (name: string) => (models as Record<string, { small?: object }>)[name]!.small ?? {}

test.each(Object.keys(models) as ModelName[])("%s trains under every protocol", (model) => {
  for (const protocol of protocolNames) {
    const { aux: _, ...options } = { aux: null, ...small(model) }
    const config = resolveOpen(parseConfig({ data, protocol, model, ...options }), null)
    using made = tidy(() => createModel(model, { ...modelOptions(config), numClasses: 3 }))
    refuseIdleOptions(config, made)
    applyToLayers(config, made)
    expect(config.aux, protocol).toBe((protocol === "torchvision" && takesOption(model, config.encoder, "aux")) || null)
  }
})
