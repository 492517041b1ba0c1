// The search for the first NaN, on real models: it names the layer, and changes nothing.
import { expect, test } from "vitest"
import { createModel, type SegmentationModel } from "../models/index.ts"
import { liveTensors, manualSeed, noGrad, rngState, tidy } from "../torch/index.ts"
import { firstNonFiniteOutput } from "./non-finite.ts"

const images = Float32Array.from({ length: 2 * 3 * 32 * 32 }, (_, k) => Math.sin(k))
const batch = { images, shape: [2, 32, 32] } as const

const stateOf = (model: SegmentationModel) =>
  tidy(() => ({
    rng: rngState().data(),
    ...Object.fromEntries([...model.stateDict()].map(([name, tensor]) => [name, tensor.data()])),
  }))

test.each([
  [
    "deeplabv3plus",
    "aspp.convs.1.0.0.weight",
    "the output of aspp.convs.1.0.0 (Conv2d) is not finite, nor is its weight",
  ],
  [
    "deeplabv3plus",
    "backbone.3.conv.1.1.bias",
    "the output of backbone.3.conv.1.1 (BatchNorm2d) is not finite, nor is its bias",
  ],
  [
    "lraspp",
    "classifier.high_classifier.bias",
    "the output of classifier.high_classifier (Conv2d) is not finite, nor is its bias",
  ],
])("%s with a NaN in %s", (name, parameter, expected) => {
  manualSeed(1)
  using model = tidy(() => createModel(name, { encoder: "mobilenet_v2_0.35", numClasses: 3 }))
  const live = liveTensors()
  const sound = stateOf(model)
  expect(firstNonFiniteOutput(model, batch)).toBeNull()
  expect(stateOf(model)).toEqual(sound)
  tidy(() => {
    using _ = noGrad()
    model.stateDict().get(parameter)!.view([-1]).at(0).fill_(Number.NaN)
  })
  const before = stateOf(model)
  expect(firstNonFiniteOutput(model, batch)).toBe(expected)
  expect(stateOf(model)).toEqual(before)
  expect(liveTensors()).toBe(live)
})
