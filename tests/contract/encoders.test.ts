// What every encoder must hold: maps as declared at every size, and the same numbers at every output stride.
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import {
  createEncoder,
  type Encoder,
  type EncoderOptions,
  encoderNames,
  encoderState,
  encoders,
} from "../../src/models/index.ts"
import { BatchNorm2d, type Conv2d, init } from "../../src/nn/index.ts"
import {
  aten,
  Generator,
  liveTensors,
  manualSeed,
  noGrad,
  randn,
  slice,
  type Tensor,
  tidy,
  zeros,
} from "../../src/torch/index.ts"

const create = (name: string, options: EncoderOptions = {}): Encoder => {
  manualSeed(3)
  return createEncoder(name, options).eval()
}

const picture = (n: number, h: number, w: number): Tensor => randn([n, 3, h, w], { generator: new Generator(h + w) })

const roundsDown = (name: string): boolean => name === "vgg16_bn" || name === "squeezenet1_1"

describe.each([...encoderNames, "mobilenet_v2_0.35"])("%s", (name) => {
  let encoder: Encoder
  beforeAll(() => {
    encoder = create(name)
  })
  afterAll(() => encoder.dispose())

  test.each([
    [1, 1],
    [2, 3],
    [16, 40],
    [31, 33],
    [65, 96],
  ])("maps have the channels and strides that it declares, %i x %i", (h, w) => {
    tidy(() => {
      using _ = noGrad()
      const features = encoder.call(picture(2, h, w))
      expect(features.map((map) => map.size(1))).toEqual(encoder.channels)
      expect(features).toHaveLength(encoder.strides.length)
      for (const [i, map] of features.entries()) {
        expect(map.size(0)).toBe(2)
        for (const [axis, side] of [
          [2, h],
          [3, w],
        ] as const) {
          const exact = side / encoder.strides[i]!
          expect(map.size(axis)).toBeLessThanOrEqual(Math.ceil(exact))
          expect(map.size(axis)).toBeGreaterThanOrEqual(roundsDown(name) ? Math.max(1, exact - 2) : exact)
        }
        expect(aten.isfinite(map).all().item()).toBe(1)
      }
    })
  })

  test("strides grow from 2, and the finest map comes first", () => {
    const { strides } = encoder
    expect(strides).toEqual(name === "squeezenet1_1" ? [2, 4, 8, 16] : [2, 4, 8, 16, 32])
  })

  test("its maps are the caller's, and nothing else stays", () => {
    using image = picture(1, 33, 20)
    for (const map of encoder.call(image)) map.dispose()
    const before = liveTensors()
    const maps = encoder.call(image)
    expect(liveTensors()).toBe(before + encoder.strides.length)
    for (const map of maps) map.dispose()
    expect(image.isDisposed).toBe(false)
  })
})

const dilating = encoderNames.filter((name) => !("outputStrides" in encoders[name]))

test.each(dilating)("%s: an output stride of 8 or 16 changes the strides, not the weights", (name) => {
  using natural = create(name)
  for (const [outputStride, strides] of [
    [16, [2, 4, 8, 16, 16]],
    [8, [2, 4, 8, 8, 8]],
  ] as const) {
    using encoder = create(name, { outputStride })
    expect(encoder.strides).toEqual(strides)
    expect(encoder.channels).toEqual(natural.channels)
    expect([...encoder.stateDict().keys()]).toEqual([...natural.stateDict().keys()])
    tidy(() => {
      using _ = noGrad()
      const sizes = encoder.call(picture(1, 64, 97)).map((map) => map.shape.slice(2))
      const expected = strides.map((stride) => [64, 97].map((side) => side / stride))
      const round = name === "vgg16_bn" ? Math.floor : Math.ceil
      expect(sizes).toEqual(expected.map((size) => size.map(round)))
    })
  }
})

/** Batch-norm that changes something: what it starts with leaves everything as it is. */
function enliven(encoder: Encoder): void {
  manualSeed(4)
  for (const [, module] of encoder.namedModules()) {
    if (!(module instanceof BatchNorm2d)) continue
    init.uniform_(module.weight, 0.5, 1.5)
    init.normal_(module.bias, 0, 0.3)
    init.normal_(module.running_mean, 0, 0.3)
    init.uniform_(module.running_var, 0.5, 1.5)
  }
}

// The algorithme a trous. VGG rounds down, so its sides must divide; TensorFlow's padding is symmetric, and the pixels the
// same, at 32 k + 1 only, which is why DeepLab's crops have 513. MobileNetV3 is left out: as torchvision does, and as its
// published weights want, the block that would have strided is dilated itself, which computes something else.
test.each([
  ["resnet18", {}, 49, 70],
  ["resnet50", {}, 33, 46],
  ["mobilenet_v2_0.35", {}, 49, 70],
  ["mobilenet_v2_0.1", {}, 49, 70], // stages of as many channels as the one before: still no shortcut where it strided
  ["mobilenet_v2_0.35", { padding: "tensorflow" }, 65, 97],
  ["vgg16_bn", {}, 64, 96],
] as const)(
  "%s %o: dilated, it computes at every 2nd or 4th pixel what it does with strides",
  (name, options, h, w) => {
    using strided = create(name, options)
    enliven(strided)
    const state = strided.stateDict()
    strided.to({ dtype: "float64" })
    for (const outputStride of [8, 16] as const) {
      using dilated = create(name, { ...options, outputStride }).to({ dtype: "float64" })
      dilated.loadStateDict(state)
      tidy(() => {
        using _ = noGrad()
        const image = picture(1, h, w).to({ dtype: "float64" })
        const [coarse, fine] = [strided.call(image), dilated.call(image)]
        for (const [i, map] of coarse.entries()) {
          const step = strided.strides[i]! / dilated.strides[i]!
          const every = slice(undefined, undefined, step)
          const found = fine[i]!.at("...", every, every)
          expect(found.shape).toEqual(map.shape)
          const scale = map.abs().max().item()
          expect(scale).toBeGreaterThan(1e-3)
          expect(found.sub(map).abs().max().item(), `map ${i} at ${outputStride}`).toBeLessThan(1e-12 * scale)
        }
      })
    }
  },
)

test("MobileNetV3 is dilated as torchvision's: not a trous", () => {
  using strided = create("mobilenet_v3_small")
  using dilated = create("mobilenet_v3_small", { outputStride: 16 })
  dilated.loadStateDict(strided.stateDict())
  tidy(() => {
    using _ = noGrad()
    const image = picture(1, 49, 70)
    const [coarse, fine] = [strided.call(image), dilated.call(image)]
    const every = slice(undefined, undefined, 2)
    const difference = fine[4]!.at("...", every, every).sub(coarse[4]!).abs().max().item()
    expect(difference).toBeGreaterThan(0.01 * coarse[4]!.abs().max().item())
  })
})

test("multi-grid multiplies the dilation of each block of a ResNet's last stage", () => {
  const dilations = (multiGrid?: readonly number[]) => {
    using encoder = create("resnet18", { outputStride: 16, multiGrid })
    const convolutions = [...encoder.namedModules()].filter(([key]) => /layer[34]\.\d\.conv/.test(key))
    return convolutions.map(([, module]) => (module as Conv2d).dilation)
  }
  expect(dilations()).toEqual([1, 1, 1, 1, 1, 2, 2, 2]) // the first of layer4 sees what is not dilated yet
  expect(dilations([1, 2])).toEqual([1, 1, 1, 1, 2, 2, 4, 4])
})

test("encoderState keeps of any checkpoint what is the encoder's", () => {
  const tensor = zeros([1])
  const keys = (...names: string[]) => [...encoderState(new Map(names.map((name) => [name, tensor]))).keys()]
  expect(keys("conv1.weight", "layer1.0.bn1.weight", "fc.weight", "fc.bias")).toEqual([
    "conv1.weight",
    "layer1.0.bn1.weight",
  ])
  expect(keys("features.0.0.weight", "features.18.1.bias", "classifier.1.weight")).toEqual(["0.0.weight", "18.1.bias"])
  expect(keys("backbone.conv1.weight", "classifier.4.weight", "aux_classifier.4.bias")).toEqual(["conv1.weight"])
  expect(encoderState(new Map([["features.0.weight", tensor]])).get("0.weight")).toBe(tensor)
})

test.each([
  ["resnet18", { outputStride: 12 }, "outputStride is 12; resnet18 can have 8, 16, 32."],
  ["squeezenet1_1", { outputStride: 32 }, "outputStride is 32; squeezenet1_1 can have 16."],
  ["vgg16_bn", { padding: "tensorflow" }, "The encoder vgg16_bn has no padding; it has: outputStride."],
  ["mobilenet_v2", { multiGrid: [1] }, "The encoder mobilenet_v2 has no multiGrid"],
  ["resnet50", { multiGrid: [1, 2] }, "multiGrid is 1,2; expected 3 factors"],
  ["resnet50", { multiGrid: [1, 0, 2] }, "multiGrid is 1,0,2; expected whole factors"],
  ["resnet_18", {}, 'Unknown encoder "resnet_18". Did you mean "resnet18"?'],
  ["resnet18_0.5", {}, 'Unknown encoder "resnet18_0.5".'],
  ["mobilenet_v2_99", {}, 'Unknown encoder "mobilenet_v2_99".'],
  ["mobilenet_v2_0.35", { width: 1 }, "has its width in its name; leave out width 1."],
  ["mobilenet_v2", { width: 99 }, "width is 99; mobilenet_v2 can have 0.05 to 8 times its channels."],
  ["mobilenet_v2", { width: Number.NaN }, "width is NaN;"],
  ["toString", {}, 'Unknown encoder "toString".'],
] as const)("%s %o is refused, with the reason", (name, options, message) => {
  expect(() => createEncoder(name, options as unknown as EncoderOptions)).toThrow(message)
})
