// What every registered model must hold, whatever it is.
import "../all-levers.ts"
import { createHash } from "node:crypto"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import * as library from "../../src/index.ts"
import { crossEntropy } from "../../src/losses/index.ts"
import {
  callAtStride,
  createModel,
  encoderNames,
  logitStride,
  type ModelEntry,
  type ModelOptions,
  models,
  type SegmentationModel,
} from "../../src/models/index.ts"
import { BatchNorm2d, type Conv2d, Dropout, Dropout2d, init, interpolate } from "../../src/nn/index.ts"
import {
  aten,
  Generator,
  liveTensors,
  manualSeed,
  noGrad,
  randint,
  randn,
  type Tensor,
  tidy,
} from "../../src/torch/index.ts"

type Case = Partial<ModelOptions> & { readonly model: string }

// Each encoder, and each of the ways of taking maps from it, at least once.
const combinations: Record<string, Case> = {
  "unet, bilinear": { model: "unet", width: 3, depth: 2, upsampling: "bilinear" },
  "unet resnet34": { model: "unet", encoder: "resnet34" },
  "unet mobilenet_v2": { model: "unet", encoder: "mobilenet_v2_0.35", padding: "tensorflow" },
  "unet mobilenet_v3_small": { model: "unet", encoder: "mobilenet_v3_small" },
  "unet vgg16_bn": { model: "unet", encoder: "vgg16_bn", outputStride: 16 },
  "unet squeezenet1_1": { model: "unet", encoder: "squeezenet1_1" },
  "linknet mobilenet_v3_small": { model: "linknet", encoder: "mobilenet_v3_small", outputStride: 8 },
  "linknet squeezenet1_1": { model: "linknet", encoder: "squeezenet1_1" },
  "fcn8s resnet18": { model: "fcn8s", encoder: "resnet18", outputStride: 16, width: 8 },
  "fcn squeezenet1_1": { model: "fcn", encoder: "squeezenet1_1" },
  "pspnet mobilenet_v2": { model: "pspnet", encoder: "mobilenet_v2_0.35", aux: false },
  "deeplabv3 resnet50": { model: "deeplabv3", encoder: "resnet50", multiGrid: [1, 2, 4] },
  "lraspp resnet101": { model: "lraspp", encoder: "resnet101", outputStride: 32 },
  "lraspp, pyramid": { model: "lraspp", encoder: "mobilenet_v2_0.35", imagePyramid: [0.5, 1] },
  "unet, pyramid": { model: "unet", width: 3, depth: 2, imagePyramid: [0.75, 1, 1.25], pyramidMerge: "average" },
}

const cases: Record<string, Case> = {
  ...Object.fromEntries(Object.entries<ModelEntry>(models).map(([model, { small }]) => [model, { model, ...small }])),
  ...combinations,
}
const encoderOf = ({ model, encoder }: Case): string | null => encoder ?? models[model as keyof typeof models].encoder

const create = (title: string, seed: number): SegmentationModel => {
  const { model, ...options } = cases[title]!
  manualSeed(seed)
  return createModel(model, { numClasses: 3, ...options })
}

function signature(model: SegmentationModel): string {
  const lines = [...model.stateDict()].map(([key, tensor]) => `${key} ${tensor.signature}\n`)
  const parameters = model.parameters().reduce((sum, { numel }) => sum + numel, 0)
  const hash = createHash("sha256").update(lines.join("")).digest("hex")
  return `${lines.length} keys, ${parameters} parameters, ${hash.slice(0, 16)}`
}

/** An image that does not depend on what was drawn before. */
const picture = (n: number, h: number, w: number): Tensor =>
  randn([n, 3, h, w], { generator: new Generator(n + h + w) })

function lossOf(model: SegmentationModel, image: Tensor): Tensor {
  const { logits, aux } = model.call(image)
  const [n, , h, w] = logits.shape as [number, number, number, number]
  const labels = randint(0, 3, [n, h, w], { generator: new Generator(5) })
  const loss = crossEntropy(logits, labels)
  return aux ? loss.add(crossEntropy(aux, labels)) : loss
}

/** Batch-norm with its running statistics, no dropout: what remains of training is that gradients are kept. */
function freeze(model: SegmentationModel, frozen: boolean): void {
  model.train()
  for (const [, module] of model.namedModules()) {
    if (module instanceof BatchNorm2d) module.frozen = frozen
    if (module instanceof Dropout || module instanceof Dropout2d) module.train(!frozen)
  }
}

/** Layers that start at zero (FCN-8s's scores) keep gradients from what is before them. */
function fillLogitLayers(model: SegmentationModel): void {
  const layers = new Map(model.namedModules())
  manualSeed(11)
  for (const name of model.logitLayers) init.torchDefault_((layers.get(name) as Conv2d).weight, null)
}

const allFinite = (tensor: Tensor): boolean => aten.isfinite(tensor).all().item() === 1

// Presets are torchvision's models: tests/parity/torchvision.test.ts has them.
test("every encoder is here", () => {
  const used = Object.values(cases).map(encoderOf)
  expect(encoderNames.filter((name) => !used.some((encoder) => encoder?.startsWith(name)))).toEqual([])
})

describe.each(Object.keys(cases))("%s", (title) => {
  let model: SegmentationModel
  beforeAll(() => {
    model = create(title, 1)
    fillLogitLayers(model)
  })
  afterAll(() => model.dispose())

  test("state dict: names, order, shapes and dtypes are what published weights count on", () => {
    // A new model's is written into __snapshots__ by its first run, to be committed with it. Changed on purpose, so that
    // older checkpoints no longer load? Then: npm test -- tests/contract/models.test.ts -u
    expect(signature(model)).toMatchSnapshot()
  })

  test("logits have the image's size and are finite; so is what the auxiliary head gives", () => {
    model.eval()
    for (const [h, w] of [
      [1, 1],
      [2, 3],
      [31, 33],
      [64, 64],
      [97, 131],
    ] as const) {
      tidy(() => {
        using _ = noGrad()
        const output = model.call(picture(1, h, w))
        expect("aux" in output).toBe("aux_classifier" in model && model.aux_classifier !== null)
        for (const logits of Object.values(output) as Tensor[]) {
          expect(logits.signature).toBe(`float32[1, 3, ${h}, ${w}]`)
          expect(allFinite(logits), `${h} x ${w}`).toBe(true)
        }
      })
    }
  })

  test("logits at the model's own stride, enlarged, are its logits", () => {
    model.eval()
    tidy(() => {
      using _ = noGrad()
      const image = picture(1, 45, 70)
      const [own, enlarged] = [callAtStride(model, image), model.call(image)]
      for (const name of ["logits", "aux"] as const) {
        const logits = own[name]
        if (!logits) continue
        expect(interpolate(logits, [45, 70]).data()).toEqual(enlarged[name]!.data())
        if (model.upsampleLogits) expect(logits.size(2)).toBeLessThan(45)
      }
    })
  })

  test("trains with one image, of one pixel too: finite loss, gradients and statistics", () => {
    freeze(model, false)
    for (const [h, w] of [
      [1, 1],
      [40, 24],
    ] as const) {
      model.zeroGrad()
      tidy(() => {
        const loss = lossOf(model, picture(1, h, w))
        expect(Number.isFinite(loss.item())).toBe(true)
        loss.backward()
        for (const [key, parameter] of model.namedParameters()) {
          expect(parameter.grad, key).not.toBeNull()
          expect(allFinite(parameter.grad as Tensor), key).toBe(true)
        }
        for (const [key, buffer] of model.namedBuffers()) expect(allFinite(buffer), key).toBe(true)
      })
    }
    model.zeroGrad()
  })

  test("no parameter is idle: each has a gradient that is not 0", () => {
    freeze(model, true) // the batch's statistics would hide idle biases behind rounding
    tidy(() => lossOf(model, picture(2, 64, 72)).backward())
    for (const [key, parameter] of model.namedParameters()) {
      expect(
        tidy(() => (parameter.grad as Tensor).abs().max().item()),
        key,
      ).toBeGreaterThan(0)
    }
    model.zeroGrad()
  })

  test("training with frozen statistics and no dropout computes what eval() does, and moves no statistics", () => {
    const image = picture(2, 40, 33)
    const logits = () => tidy(() => model.call(image).logits.data())
    const statistics = () => Array.from(model.namedBuffers(), ([, buffer]) => buffer.data())
    const before = statistics()
    freeze(model, true)
    const frozen = logits()
    expect(statistics()).toEqual(before)
    freeze(model, false)
    model.eval()
    expect(logits()).toEqual(frozen)
    image.dispose()
  })

  test("the seed decides everything: initial values, and what dropout drops", () => {
    using again = create(title, 1)
    fillLogitLayers(again)
    for (const [k, parameter] of again.parameters().entries()) {
      expect(tidy(() => aten.equal(parameter, model.parameters()[k]!))).toBe(true)
    }
    again.loadStateDict(model.stateDict()) // whose statistics have moved in training
    const logits = (model: SegmentationModel) => {
      manualSeed(7)
      return tidy(() =>
        model
          .train()
          .call(picture(2, 20, 28))
          .logits.data(),
      )
    }
    expect(logits(again)).toEqual(logits(model))
  })

  test("a state dict carries everything over", () => {
    using other = create(title, 2).eval()
    fillLogitLayers(other)
    model.eval()
    using image = picture(1, 20, 28)
    const logits = (model: SegmentationModel) => tidy(() => model.call(image).logits.data())
    expect(logits(other)).not.toEqual(logits(model))
    other.loadStateDict(model.stateDict())
    expect(logits(other)).toEqual(logits(model))
  })

  test("outputs are the caller's alone; nothing stays, whether it computes, trains or fails", () => {
    using image = picture(1, 33, 20)
    const evaluate = () => {
      const output = model.eval().call(image)
      const data = output.logits.data()
      for (const tensor of Object.values(output) as Tensor[]) tensor.dispose()
      return data
    }
    const train = () => tidy(() => lossOf(model.train(), image).backward())
    const fail = () => expect(() => tidy(() => model.call(image.narrow(1, 0, 2)))).toThrow()
    train() // makes gradients
    const first = evaluate()
    const before = liveTensors()
    expect(evaluate()).toEqual(first)
    train()
    tidy(fail)
    expect(liveTensors()).toBe(before)
    model.zeroGrad()
    expect(image.isDisposed).toBe(false)
  })

  test("train() and eval() reach all modules", () => {
    for (const training of [false, true]) {
      model.train(training)
      for (const [, module] of model.namedModules()) expect(module.training).toBe(training)
    }
  })

  test("computes in float64 too, and the same; an image's logits do not depend on its neighbours in the batch", () => {
    model.eval()
    tidy(() => {
      using _ = noGrad()
      const images = picture(2, 33, 18)
      const single = model.call(images).logits
      model.to({ dtype: "float64" })
      const doubles = images.to({ dtype: "float64" })
      const double = model.call(doubles).logits
      expect(double.dtype).toBe("float64")
      const scale = double.abs().max().item()
      expect(double.sub(single).abs().max().item()).toBeLessThan(1e-4 * scale)
      // In float64, because rounding can move SegNet's maxima.
      const alone = model.call(doubles.narrow(0, 1, 1)).logits
      expect(double.narrow(0, 1, 1).sub(alone).abs().max().item()).toBeLessThan(1e-12 * scale)
    })
    model.to({ dtype: "float32" })
  })

  test("says its strides, its encoder and the layers that know the classes", () => {
    using more = createModel(cases[title]!.model, { ...cases[title], numClasses: 5 })
    const own = model.stateDict()
    const differing = [...more.stateDict()]
      .filter(([key, tensor]) => String(tensor.shape) !== String(own.get(key)!.shape))
      .map(([key]) => key.slice(0, key.lastIndexOf(".")))
    expect(new Set(differing)).toEqual(new Set(model.logitLayers))
    expect(model.backbone !== undefined).toBe(encoderOf(cases[title]!) !== null)
    expect(model.stride).toBe(model.backbone?.strides.at(-1) ?? 2 ** cases[title]!.depth!)
  })
})

describe("options", () => {
  test.each([
    [
      "unet",
      { padding: "tensorflow" },
      "The model unet has no padding. Its options: encoder, width, depth, upsampling.",
    ],
    [
      "unet",
      { encoder: "resnet18", width: 8 },
      "The model unet with the encoder resnet18 has no width. Its options: encoder, outputStride, multiGrid, padding.",
    ],
    ["linknet", { depth: 3 }, "The model linknet has no depth."],
    ["segnet", { encoder: "resnet18" }, "its encoder can only be vgg16_bn"],
    ["segnet", { outputStride: 8 }, "outputStride can only be 32, got 8."],
    ["fcn", { encoder: "squeezenet1_1", outputStride: 8 }, "outputStride is 8; squeezenet1_1 can have 16."],
    ["fcn", { encoder: "resnet18", padding: "tensorflow" }, "The encoder resnet18 has no padding"],
    [
      "pspnet",
      { encoder: "resnet18", auxMap: 9 },
      "auxMap is 9; expected 0 (the encoder's finest map) to 4, or -1 (the coarsest) to -5.",
    ],
    ["fcn", { encoder: "squeezenet1_1", aux: true, auxMap: 4 }, "auxMap is 4; expected 0"],
    ["fcn", { encoder: "resnet18", aux: true, auxMap: -1.5 }, "auxMap is -1.5;"],
    [
      "deeplabv3",
      { encoder: "mobilenet_v2_0.1", atrousRates: [6, 0] },
      "atrousRates is 6,0; expected whole pixels of at least 1, such as 6,12,18.",
    ],
    ["deeplabv3plus", { encoder: "mobilenet_v2_0.1", atrousRates: [1.5] }, "atrousRates is 1.5;"],
    ["fcn8", {}, 'Unknown model "fcn8". Did you mean "fcn8s"?'],
    ["fcn8s", { encoder: "vgg16" }, 'Unknown encoder "vgg16".'],
    ["constructor", {}, 'Unknown model "constructor".'],
    ["unet", { width: 2, imagePyramid: [0.5, 0.5] }, "imagePyramid is 0.5,0.5; expected different factors"],
    ["unet", { width: 2, imagePyramid: [] }, "imagePyramid is empty; expected different factors"],
    ["unet", { width: 2, imagePyramid: [1, -1] }, "imagePyramid is 1,-1; expected different factors"],
    ["unet", { width: 2, pyramidMerge: "max" }, "pyramidMerge is about imagePyramid, which is not given."],
  ] as const)("%s %o is refused, with the reason, and leaves no tensor", (name, options, message) => {
    const before = liveTensors()
    expect(() => createModel(name, { numClasses: 2, ...(options as Partial<ModelOptions>) })).toThrow(message)
    expect(liveTensors()).toBe(before)
  })

  test("a model can be constructed as an object", () => {
    const before = liveTensors()
    const encoder = library.createEncoder("resnet18", { outputStride: 16 })
    const model = tidy(() => new library.DeepLabV3(encoder, { numClasses: 3 }))
    using same = createModel("deeplabv3", { encoder: "resnet18", numClasses: 3 })
    expect(signature(model)).toBe(signature(same))
    model.dispose()
    same.dispose()
    expect(liveTensors()).toBe(before)
  })

  test.each([
    ["unet", {}, 1], // its last layer is as large as the image
    ["linknet", { encoder: "resnet18" }, 1],
    ["fcn32s", { encoder: "resnet18" }, 32],
    ["fcn16s", { encoder: "resnet18" }, 16],
    ["fcn8s", { encoder: "resnet18" }, 8],
    ["deeplabv3", { encoder: "resnet18", outputStride: 16 }, 16],
    ["deeplabv3", { encoder: "resnet18", outputStride: 8 }, 8],
    ["deeplabv3plus", { encoder: "resnet18", outputStride: 16 }, 4], // of the low-level map
    ["lraspp", { encoder: "mobilenet_v2_0.35", outputStride: 16 }, 8], // the same
    ["fcn", { encoder: "squeezenet1_1", outputStride: 16 }, 16],
    ["lraspp", { encoder: "mobilenet_v2_0.35", imagePyramid: [0.5, 1] }, 8],
  ] as const)("%s %j: one of its logits for %i pixels", (name, options, stride) => {
    const before = liveTensors()
    using model = createModel(name, { ...options, numClasses: 2 }).eval()
    const own = liveTensors()
    expect(logitStride(model)).toBe(stride)
    model.eval() // forgets what it kept for the next call
    expect(liveTensors()).toBe(own)
    expect(before).toBeLessThan(own)
  })

  test("a model's output stride gives way to what the encoder can have", () => {
    using model = createModel("fcn", { encoder: "squeezenet1_1", numClasses: 2 }) // FCN's is 8
    expect(model.stride).toBe(16)
  })
})
