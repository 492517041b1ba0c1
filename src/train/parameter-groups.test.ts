// Which parameter gets which settings, on real models. What optimizers make of them: tests/parity/groups.test.ts.
import { expect, test } from "vitest"
import { createModel, models, type SegmentationModel } from "../models/index.ts"
import { tidy } from "../torch/index.ts"
import { parseConfig } from "./config.ts"
import {
  type GroupOptions,
  optimizerFor,
  type ParameterPlace,
  parameterPlaces,
  settingsOf,
} from "./parameter-groups.ts"

const plain: GroupOptions = {
  headRate: null,
  auxRate: null,
  layerDecay: 1,
  biasMultiplier: 1,
  lastLayerMultiplier: 1,
  lastLayers: null,
  multiplierForm: null,
  weightDecay: 4e-5,
  decayExempt: "none",
}
const deepLab = {
  ...plain,
  biasMultiplier: 2,
  lastLayerMultiplier: 10,
  multiplierForm: "gradient",
  decayExempt: "deeplab",
} as const

const small = (name: string, encoder = "mobilenet_v2_0.35"): SegmentationModel =>
  tidy(() => createModel(name, { encoder, numClasses: 3 }))
const placesOf = (model: SegmentationModel) => new Map(parameterPlaces(model).map((place) => [place.name, place]))

test("TensorFlow's DeepLab on DeepLabV3+: each kind of layer, by name", () => {
  using model = small("deeplabv3plus")
  const places = placesOf(model)
  const rows: [name: string, gradient: number, decays: boolean][] = [
    ["backbone.0.0.weight", 1, true],
    ["backbone.0.1.weight", 1, false],
    ["backbone.0.1.bias", 1, false], // batch-norm's: TensorFlow calls it beta, not bias
    ["backbone.1.conv.0.0.weight", 1, false], // depthwise
    ["aspp.convs.0.0.weight", 10, true],
    ["aspp.convs.0.1.bias", 10, false],
    ["aspp.convs.1.0.0.weight", 10, false], // the depthwise half of a separable convolution
    ["aspp.convs.1.1.0.weight", 10, true],
    ["aspp.project.0.weight", 10, true],
    ["reduce.0.weight", 10, true],
    ["decoder.0.1.0.weight", 10, true],
    ["decoder.2.weight", 10, true],
    ["decoder.2.bias", 20, false],
  ]
  for (const [name, gradient, decays] of rows) {
    const place = places.get(name)
    expect(place, name).toBeDefined()
    expect(settingsOf(place!, deepLab), name).toEqual({ rate: 1, gradient, weightDecay: decays ? 4e-5 : 0 })
    const rate = settingsOf(place!, { ...deepLab, multiplierForm: "rate" })
    expect(rate, name).toEqual({ rate: gradient, gradient: 1, weightDecay: decays ? 4e-5 : 0 })
  }
  const logitsOnly = [...places].filter(
    ([, place]) => settingsOf(place, { ...deepLab, lastLayers: "logits" }).gradient >= 10,
  )
  expect(logitsOnly.map(([name]) => name)).toEqual(["decoder.2.weight", "decoder.2.bias"])
})

test("biases of an encoder's convolutions count twice", () => {
  using model = small("lraspp", "mobilenet_v3_small")
  const bias = placesOf(model).get("backbone.1.block.1.fc1.bias")
  expect(bias).toMatchObject({ kind: "bias", isLogits: false })
  expect(settingsOf(bias!, deepLab)).toEqual({ rate: 1, gradient: 2, weightDecay: 0 })
})

test("layer-wise decay: a factor for each stage behind the last, the head as it is", () => {
  using model = small("deeplabv3", "resnet18")
  const places = placesOf(model)
  const rate = (name: string) => settingsOf(places.get(name)!, { ...plain, layerDecay: 0.5, headRate: 4 }).rate
  expect(rate("classifier.4.weight")).toBe(4)
  expect(rate("backbone.layer4.1.conv2.weight")).toBe(0.5)
  expect(rate("backbone.layer3.0.conv1.weight")).toBe(0.25)
  expect(rate("backbone.layer2.0.bn1.weight")).toBe(0.125)
  expect(rate("backbone.layer1.0.conv1.weight")).toBe(0.0625)
  expect(rate("backbone.conv1.weight")).toBe(0.03125)
  expect(rate("backbone.bn1.bias")).toBe(0.03125)
})

test("an auxiliary head has a rate of its own, or that of the other heads", () => {
  using model = tidy(() => createModel("fcn", { encoder: "resnet18", aux: true, numClasses: 3 }))
  const places = placesOf(model)
  const rates = (options: Partial<GroupOptions>) =>
    ["backbone.conv1.weight", "classifier.4.bias", "aux_classifier.0.weight", "aux_classifier.4.bias"].map(
      (name) => settingsOf(places.get(name)!, { ...plain, ...options }).rate,
    )
  expect(rates({ auxRate: 10 })).toEqual([1, 1, 10, 10]) // torchvision's
  expect(rates({ auxRate: 10, headRate: 4 })).toEqual([1, 4, 10, 10])
  expect(rates({ headRate: 4 })).toEqual([1, 4, 4, 4])
})

test.each(Object.keys(models))("%s: every parameter has its place, and neutral settings change none", (name) => {
  const { small: options = {} } = (models as Record<string, { small?: object }>)[name]!
  using model = tidy(() => createModel(name, { numClasses: 3, ...options }))
  const places = parameterPlaces(model)
  expect(places.map((place) => place.name)).toEqual(Array.from(model.namedParameters(), ([key]) => key))
  expect(places.some(({ isLogits }) => isLogits)).toBe(true)
  for (const place of places) {
    expect(settingsOf(place, plain)).toEqual({ rate: 1, gradient: 1, weightDecay: 4e-5 })
    const isEncoder = place.name.startsWith("backbone.")
    expect(place.stagesLeft > 0, place.name).toBe(isEncoder)
    expect(settingsOf(place, { ...plain, headRate: 8 }).rate).toBe(isEncoder ? 1 : 8)
    if (place.kind === "norm") expect(place.isLogits, place.name).toBe(false)
  }
  // Stages follow one another.
  const stages = places.filter(({ stagesLeft }) => stagesLeft > 0).map(({ stagesLeft }) => stagesLeft)
  expect(stages).toEqual(stages.toSorted((a, b) => b - a))
})

test("the optimizer takes the configuration's options, and each parameter's settings", () => {
  using model = small("lraspp")
  const config = parseConfig({
    data: "none",
    optimizer: "adamw",
    betas: [0.8, 0.95],
    eps: 1e-4,
    weightDecay: 0.1,
    decayExempt: "norms-and-biases",
    biasMultiplier: 3,
    multiplierForm: "rate",
  })
  using optimizer = optimizerFor(model, { ...config, learningRate: 0.5 })
  expect(optimizer).toMatchObject({ lr: 0.5, betas: [0.8, 0.95], eps: 1e-4, weightDecay: 0.1 })
  expect(optimizer.groupOf("classifier.high_classifier.bias")).toEqual({ rate: 3, gradient: 1, weightDecay: 0 })
  expect(optimizer.groupOf("classifier.high_classifier.weight")).toEqual({ rate: 1, gradient: 1, weightDecay: 0.1 })
})

test("a place is plain data", () => {
  using model = small("lraspp")
  const place: ParameterPlace = placesOf(model).get("classifier.low_classifier.weight")!
  expect(place).toEqual({
    name: "classifier.low_classifier.weight",
    kind: "weight",
    isLogits: true,
    isAux: false,
    stagesLeft: 0,
    learns: true,
  })
})
