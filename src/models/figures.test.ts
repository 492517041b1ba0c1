// What the papers, and the code that goes with them, say about the models that torchvision does not have. Contracts that
// hold for all models: tests/contract/models.test.ts; numbers of those that torchvision has: tests/parity/torchvision.test.ts.
import { describe, expect, test } from "vitest"
import { type AnyModule, BatchNorm2d, Conv2d, init, interpolate, type Module } from "../nn/index.ts"
import { aten, manualSeed, noGrad, randn, type Tensor, tidy, zeros } from "../torch/index.ts"
import { ASPP } from "./deeplabv3.ts"
import { ResNet, resnetShapes } from "./encoders/resnet.ts"
import { FCNSkip } from "./fcn-skip.ts"
import { createEncoder, createModel, type ModelOptions } from "./index.ts"
import { SegNet } from "./segnet.ts"

test.each([
  // segmentation_models_pytorch.Unet("resnet34", classes=1)
  ["unet", { encoder: "resnet34", numClasses: 1 }, 24_436_369],
  // By hand: ResNet-18 without fc 11,176,512; decoders of 512 -> 256 -> 128 -> 64 -> 64 channels, each
  // c h + 2 h + 9 h^2 + 2 h + h n + 2 n with h = c / 4; head 9 64 32 + 64 and 4 32 K + K. The paper says 11.5 million.
  ["linknet", { numClasses: 20 }, 11_176_512 + 246_784 + 61_952 + 15_616 + 4_544 + 18_496 + 2_580],
  // VGG's 14,723,136; its 14,710,464 weights mirrored, but for the first layer's; 3,712 channels of batch-norm; the last
  // layer.
  ["segnet", { numClasses: 12 }, 14_723_136 + (14_710_464 - 9 * 3 * 64) + 2 * 3_712 + 9 * 64 * 12 + 12],
  // VGG, fc6, fc7, scores of fc7, pool4 and pool3, two enlargements
  [
    "fcn8s",
    { numClasses: 21, width: 64 },
    14_723_136 + 49 * 512 * 64 + 64 + 64 * 64 + 64 + 21 * (64 + 512 + 256 + 3) + 2 * 16 * 21 * 21,
  ],
] as [string, ModelOptions, number][])("%s %o has as many parameters as it should", (name, options, expected) => {
  using model = createModel(name, options)
  expect(model.parameters().reduce((sum, { numel }) => sum + numel, 0)).toBe(expected)
})

describe("FCN-8s", () => {
  const create = (skips: 0 | 1 | 2) => {
    manualSeed(1)
    return new FCNSkip(createEncoder("mobilenet_v2_0.35"), { numClasses: 3, skips, width: 8 })
  }

  test("begins undecided: all scores are 0", () => {
    using model = create(2)
    using logits = model.eval().call(randn([1, 3, 40, 50])).logits
    expect(tidy(() => logits.abs().max().item())).toBe(0)
  })

  test("its learned enlargement starts bilinear", () => {
    using model = create(2)
    const { enlarge } = model.skips[0]!
    tidy(() => {
      using _ = noGrad()
      const x = randn([1, 3, 6, 7])
      const inside = (y: Tensor) => y.narrow(2, 1, 10).narrow(3, 1, 12) // at the border it fades to 0
      const difference = inside(enlarge.call(x)).sub(inside(interpolate(x, [12, 14])))
      expect(difference.abs().max().item()).toBeLessThan(1e-6)
    })
  })

  test.each([0, 1, 2] as const)("with %i skips it adds the scores of as many finer maps", (skips) => {
    using model = create(skips).eval()
    expect(model.skips.map(({ score }) => score.weight.size(1))).toEqual([32, 16].slice(0, skips))
    for (const { score } of model.skips) {
      tidy(() => {
        using _ = noGrad()
        score.bias!.fill_(1)
        const { logits } = model.call(zeros([1, 3, 64, 64]))
        expect(logits.min().item()).toBeGreaterThan(0) // the middle of the image has all of it, the border less
        expect(logits.max().item()).toBeCloseTo(1, 4)
        score.bias!.zero_()
      })
    }
  })
})

test("SegNet puts values back where the encoder's maxima were", () => {
  manualSeed(2)
  using model = new SegNet(createEncoder("vgg16_bn"), { numClasses: 2 }).eval()
  tidy(() => {
    using _ = noGrad()
    // The decoder's second stage gives 1 everywhere, and the last one shows its first two channels as they are.
    const state = model.stateDict()
    const set = (key: string, value: number) => state.get(`decoder.${key}`)!.fill_(value)
    for (const key of ["1.1.0.weight", "0.0.0.weight", "0.1.weight", "0.1.bias"]) set(key, 0)
    set("1.1.1.bias", 1)
    for (const channel of [0, 1]) {
      for (const layer of ["0.0.0", "0.1"]) {
        state.get(`decoder.${layer}.weight`)!.at(channel, channel, 1, 1).fill_(1)
      }
    }
    const image = randn([1, 3, 32, 32])
    const before = model.backbone.layers.slice(0, 6).reduce((x, layer) => layer.call(x), image.alias())
    const blocks = before.narrow(1, 0, 2).reshape([2, 16, 2, 16, 2])
    const largest = blocks.max({ dim: [2, 4], keepdim: true })
    const seen = largest.gt(0).expand(blocks.shape) // where ReLU left nothing, any pixel may be the maximum
    const expected = aten.logical_and(blocks.eq(largest), seen).view([1, 2, 32, 32])
    const logits = model.call(image).logits
    const found = aten.logical_and(logits.gt(0.99), seen.reshape([1, 2, 32, 32]))
    expect(found.data()).toEqual(expected.data())
    expect(logits.sum().item()).toBeCloseTo(2 * 16 * 16, 1) // one pixel of each block, the others 0
  })
})

describe("DeepLab", () => {
  /** Weights of one sign and nothing else, so that nothing cancels: what a value reaches is not 0. */
  function makePositive(module: AnyModule): void {
    module.eval()
    for (const [, child] of module.namedModules()) {
      if (child instanceof Conv2d) init.constant_(child.weight, child.weight.size(0) / child.weight.numel)
      if (child instanceof BatchNorm2d) init.constant_(child.bias, 0)
    }
  }

  /** Where one value in the middle of `shape` is seen, as distances from there in pixels: its rows and its columns. */
  const footprint = (module: Module, shape: readonly [number, number, number, number]): [number[], number[]] =>
    tidy(() => {
      using _ = noGrad()
      const middle = shape.slice(2).map((side) => side >> 1) as [number, number]
      const x = zeros(shape)
      x.at("...", ...middle).fill_(1)
      const seen = aten.amax(module.call(x), { dim: [0, 1] }) // [H, W]
      return ([1, 0] as const).map((other, axis) => {
        const line = aten.amax(seen, { dim: other }).toArray() as number[]
        return line.flatMap((value, i) => (value > 0 ? [i - middle[axis]!] : []))
      }) as [number[], number[]]
    })

  // Section 3.3 of the paper: 6, 12, 18 at output stride 16, "the rates are doubled when output stride = 8". torchvision
  // takes 12, 24, 36 also for MobileNetV3, though that has stride 16.
  test.each([
    ["deeplabv3", { encoder: "mobilenet_v2_0.1", outputStride: 32 }, [3, 6, 9]],
    ["deeplabv3", { encoder: "mobilenet_v2_0.1", outputStride: 16 }, [6, 12, 18]],
    ["deeplabv3", { encoder: "mobilenet_v2_0.1" }, [6, 12, 18]],
    ["deeplabv3", { encoder: "mobilenet_v2_0.1", outputStride: 8 }, [12, 24, 36]],
    ["deeplabv3", { encoder: "mobilenet_v2_0.1", atrousRates: [2, 5] }, [2, 5]],
    ["deeplabv3plus", { encoder: "mobilenet_v2_0.1" }, [6, 12, 18]],
    ["deeplabv3plus", { encoder: "mobilenet_v2_0.1", outputStride: 8 }, [12, 24, 36]],
    ["deeplabv3_resnet50", {}, [12, 24, 36]],
    ["deeplabv3_mobilenet_v3_large", {}, [12, 24, 36]],
  ] as [string, Partial<ModelOptions>, number[]][])("%s %o: atrous rates %o", (name, options, rates) => {
    using model = createModel(name, { numClasses: 2, ...options })
    const aspp = [...model.namedModules()].map(([, module]) => module).find((module) => module instanceof ASPP)!
    const wide = (branch: AnyModule) =>
      Array.from(branch.namedModules(), ([, module]) => module).find(
        (module) => module instanceof Conv2d && module.weight.size(3) === 3,
      ) as Conv2d | undefined
    const convs = aspp.convs.map(wide)
    expect(convs.map((conv) => conv?.dilation)).toEqual([undefined, ...rates, undefined])
    expect(convs.map((conv) => conv?.padding)).toEqual([undefined, ...rates, undefined])
  })

  test.each([false, true])("a branch of rate r sees its pixel and those r away, separable %s", (separable) => {
    const rates = [6, 12, 18, 24]
    using aspp = tidy(() => new ASPP(2, rates, { outChannels: 2, separable }))
    makePositive(aspp)
    for (const [k, r] of rates.entries()) {
      expect(footprint(aspp.convs[k + 1]!, [1, 2, 64, 64]), `rate ${r}`).toEqual([
        [-r, 0, r],
        [-r, 0, r],
      ])
    }
  })

  // Section 3.2.1 of the paper: at output stride 16 and multi-grid 1, 2, 4 "the three convolutions will have rates =
  // 2 (1, 2, 4) = (2, 4, 8)". Without it the first sees a map that is not dilated yet.
  test.each([
    [16, [1, 2, 4], [2, 4, 8]],
    [8, [1, 2, 4], [4, 8, 16]],
    [16, [1, 2, 1], [2, 4, 2]],
    [16, undefined, [1, 2, 2]],
    [8, undefined, [2, 4, 4]],
  ] as const)(
    "ResNet-50 at output stride %i, multi-grid %o: layer4 sees with rates %o",
    (outputStride, multiGrid, rates) => {
      using encoder = tidy(() => new ResNet(resnetShapes.resnet50, { outputStride, multiGrid }))
      makePositive(encoder.layer4)
      let reached = new Set([0])
      for (const rate of rates) reached = new Set([...reached].flatMap((at) => [at - rate, at, at + rate]))
      const expected = [...reached].sort((a, b) => a - b)
      // Lines, because 1024 channels of a whole map take seconds; across, only the middle tap is inside.
      expect(footprint(encoder.layer4, [1, 1024, 1, 64])).toEqual([[0], expected])
      expect(footprint(encoder.layer4, [1, 1024, 64, 1])).toEqual([expected, [0]])
    },
  )
})

test("an auxiliary head is there when asked for; PSPNet's unless it is not wanted", () => {
  const hasAux = (name: string, options: Partial<ModelOptions>) => {
    using model = createModel(name, { encoder: "mobilenet_v2_0.1", numClasses: 2, ...options })
    return "aux" in model.eval().call(zeros([1, 3, 8, 8]))
  }
  expect(hasAux("pspnet", {})).toBe(true)
  expect(hasAux("pspnet", { aux: false })).toBe(false)
  expect(hasAux("deeplabv3", {})).toBe(false)
  expect(hasAux("fcn", { aux: true })).toBe(true)
})
