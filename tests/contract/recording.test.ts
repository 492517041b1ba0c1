// What the recorded graph must be for every model: complete, so that whoever reads it (an exporter) can compute the
// model from it and the state dict alone; and summaries and receptive fields that agree with published numbers.
import "../all-levers.ts"
import { describe, expect, test } from "vitest"
import { createObjective, parseLoss } from "../../src/losses/objective.ts"
import {
  callAtStride,
  createClassifier,
  createEncoder,
  createModel,
  type ModelEntry,
  models,
} from "../../src/models/index.ts"
import {
  type AnyModule,
  batchNormsOf,
  receptiveField,
  receptiveWindow,
  recordForward,
  summary,
} from "../../src/nn/index.ts"
import {
  aten,
  call,
  type DType,
  fromData,
  levers,
  liveTensors,
  manualSeed,
  noGrad,
  type RecordedArgument,
  type Recording,
  rand,
  randint,
  randn,
  record,
  type Tensor,
  type TensorRef,
  tidy,
} from "../../src/torch/index.ts"

/** Computes a recording's outputs from the graph, new inputs and the model's state. */
function replay(recording: Recording, model: AnyModule, inputs: readonly Tensor[]): Tensor[] {
  const values = new Map<number, Tensor>()
  for (const [k, ref] of recording.inputs.entries()) values.set(ref.value, inputs[k] as Tensor)
  for (const tensor of model.stateDict().values()) {
    const id = recording.idOf(tensor)
    if (id !== undefined) values.set(id, tensor)
  }
  const isRef = (value: RecordedArgument): value is TensorRef =>
    typeof value === "object" && value !== null && "value" in value
  const resolve = (value: RecordedArgument): unknown => {
    if (Array.isArray(value)) return value.map(resolve)
    if (!isRef(value)) return value
    const { data, shape, dtype } = recording.values[value.value]!
    const tensor = values.get(value.value) ?? fromData(data!, shape, { dtype })
    values.set(value.value, tensor)
    return tensor
  }
  for (const op of recording.operators) {
    const result = call(op.name, ...Object.values(op.arguments).map(resolve))
    const results = op.outputs.length === 1 ? [result] : (result as unknown[])
    const keep = (noted: RecordedArgument, made: unknown): void => {
      if (Array.isArray(noted)) for (const [k, entry] of noted.entries()) keep(entry, (made as unknown[])[k])
      else if (isRef(noted)) values.set(noted.value, made as Tensor)
    }
    for (const [k, noted] of op.outputs.entries()) keep(noted, results[k])
  }
  return recording.outputs.map(({ value }) => values.get(value)!)
}

function withoutLevers<T>(fn: () => T): T {
  const before = { ...levers }
  for (const lever of Object.keys(levers) as (keyof typeof levers)[]) levers[lever] = false
  try {
    return fn()
  } finally {
    Object.assign(levers, before)
  }
}

describe.each(Object.entries<ModelEntry>(models))("%s", (name, { small }) => {
  test("its recording computes what it computes, from other images too, and keeps no tensor", () => {
    manualSeed(1)
    using model = createModel(name, { numClasses: 3, ...small })
    const live = liveTensors()
    const recording = recordForward(model, [1, 3, 40, 33])
    expect(liveTensors()).toBe(live)
    model.eval()
    tidy(() => {
      using _ = noGrad()
      const image = randn([1, 3, 40, 33])
      const expected = withoutLevers(() => Object.values(model.call(image))) // a recording sees layers one by one
      const replayed = replay(recording, model, [image])
      expect(recording.outputs.map((output) => output.name)[0]).toBe("logits")
      expect(replayed.map((tensor) => tensor.data())).toEqual(expected.map((tensor) => tensor.data()))
    })
  })

  test("its levers change nothing but rounding", () => {
    manualSeed(3)
    using model = createModel(name, { numClasses: 3, ...small })
    model.to({ dtype: "float64" }).eval()
    tidy(() => {
      using _ = noGrad()
      for (const { weight, bias, running_mean, running_var } of batchNormsOf(model)) {
        for (const tensor of [bias, running_mean]) tensor.copy_(randn(tensor.shape).mul_(0.1)) // each layer is another
        for (const tensor of [weight, running_var]) tensor.copy_(randn(tensor.shape).mul_(0.1).exp())
      }
      const image = randn([1, 3, 40, 33], { dtype: "float64" })
      const [logits, expected] = [model.call(image).logits, withoutLevers(() => model.call(image).logits)]
      const error = logits.sub(expected).abs().max().item()
      expect(error).toBeLessThanOrEqual(1e-12 * expected.abs().max().item()) // 1e-16 an operation, some hundred deep
    })
  })

  test("nor in training, in float32: the gradients are as close to those in float64", () => {
    const run = (dtype: DType) =>
      tidy(() => {
        manualSeed(5)
        using model = createModel(name, { numClasses: 3, ...small })
        for (const [, module] of model.namedModules()) if (/^Dropout/.test(module.constructor.name)) module.eval()
        const image = randn([2, 3, 64, 64]).to({ dtype })
        const labels = randint(0, 3, [2, 64, 64])
        const objective = createObjective({ terms: parseLoss("cross-entropy + jaccard"), labelSmoothing: 0.1 })
        const loss = objective(callAtStride(model.to({ dtype }), image), { labels }, { step: 0, progress: 0 })
        loss.backward()
        const gradients = model.parameters().flatMap(({ grad }) => (grad ? [grad.flatten()] : []))
        return { loss: loss.item(), gradient: aten.cat(gradients).to({ dtype: "float64" }).keep() }
      })
    const [exact, ours, plain] = [run("float64"), run("float32"), withoutLevers(() => run("float32"))]
    const norm = (x: Tensor) => x.mul(x).sum().sqrt().item()
    const error = ({ gradient }: typeof exact) => tidy(() => norm(gradient.sub(exact.gradient)) / norm(exact.gradient))
    expect(ours.loss / exact.loss).toBeCloseTo(1, 5)
    // What rounding does to a ReLU or a maximum at the edge is chance, and either has a few of them.
    expect(error(ours)).toBeLessThan(3 * error(plain) + 1e-2)
    for (const { gradient } of [exact, ours, plain]) gradient.dispose()
  })

  test("every operator ran in a call; rows add up to the parameters of the model", () => {
    using model = createModel(name, { numClasses: 3, ...small })
    const recording = recordForward(model, [1, 3, 40, 33])
    expect(recording.operators.every((op) => recording.calls[op.call])).toBe(true)
    const { rows, parameters } = summary(model, [1, 3, 40, 33])
    expect(rows.reduce((sum, row) => sum + row.parameters, 0)).toBe(parameters)
    expect(model.training).toBe(true)
  })
})

// Parameters and multiply-adds: torchvision's table of weights (num_params, _ops in G), whose models have their
// auxiliary heads, at the image size of the weights. https://pytorch.org/vision/stable/models.html
test.each([
  ["lraspp_mobilenet_v3_large", { aux: undefined }, 520, 3_221_538, 2.086],
  ["deeplabv3_mobilenet_v3_large", { aux: true }, 520, 11_029_328, 10.452],
] as const)("%s costs what torchvision says", (name, options, size, parameters, giga) => {
  using model = createModel(name, { numClasses: 21, ...options })
  const result = summary(model, [1, 3, size, size])
  expect(result.parameters).toBe(parameters)
  expect(result.multiplyAdds / 1e9).toBeCloseTo(giga, 3)
})

test("so does deeplabv3_resnet50, but for the image pooling of its ASPP per pixel, at another size", () => {
  using model = createModel("deeplabv3_resnet50", { numClasses: 21, aux: true })
  const result = summary(model, [1, 3, 104, 104]) // a fifth of 520 in both directions
  const once = 2048 * 256 // the image pooling's convolution, on one pixel at any size
  expect(result.parameters).toBe(42_004_074)
  expect(((result.multiplyAdds - once) * 25 + once) / 1e9).toBeCloseTo(178.722, 3)
})

test.each([
  ["resnet50", 224, 25_557_032, 4.089],
  ["mobilenet_v2", 224, 3_504_872, 0.301],
  ["mobilenet_v3_large", 224, 5_483_032, 0.217],
] as const)("the classifier %s costs what torchvision says", (name, size, parameters, giga) => {
  using model = createClassifier(name)
  const result = summary(model, [1, 3, size, size])
  expect(result.parameters).toBe(parameters)
  expect(result.multiplyAdds / 1e9).toBeCloseTo(giga, 3)
})

// vgg16: Araujo, Norris and Sim 2019, https://distill.pub/2019/computing-receptive-fields. resnet50, whose strides are in
// its 3x3 convolutions: 7 + 2 2 = 11 behind the pooling, + 3 2 4, + 2 4 + 3 2 8, + 2 8 + 5 2 16, + 2 16 + 2 2 32.
test.each([
  ["vgg16_bn", 212],
  ["resnet50", 427],
] as const)("the receptive field of %s's coarsest map is %i pixels", (name, pixels) => {
  using encoder = createEncoder(name)
  encoder.eval()
  using image = randn([1, 3, 64, 64])
  using _ = noGrad()
  const recording = record(() => encoder.call(image).at(-1), { inputs: [image] })
  expect(receptiveField(recording)).toEqual({ size: [pixels, pixels], wholeImage: false })
})

// Weights and image are positive, so that nothing cancels. A maximum passes its gradient to one pixel: several images.
test.each(["transposed", "bilinear"] as const)("UNet's windows are its impulse footprints, %s", (upsampling) => {
  manualSeed(2)
  using model = createModel("unet", { numClasses: 2, width: 2, depth: 2, upsampling }).to({ dtype: "float64" })
  model.eval()
  for (const parameter of model.parameters()) {
    if (parameter.ndim === 4) tidy(() => parameter.setData(rand(parameter.shape, { dtype: "float64" }).add(0.5)))
  }
  const size = 61 // not a multiple of 4: padded and cut
  const recording = recordForward(model, [1, 3, size, size])
  for (const [y, x] of [
    [30, 31],
    [31, 28],
    [29, 33],
    [0, 60],
  ] as const) {
    const window = receptiveWindow(recording, [y, x])!
    const seen = tidy(() => {
      let touched = rand([size, size], { dtype: "float64" }).mul(0)
      for (let k = 0; k < 20; k++) {
        const image = rand([1, 3, size, size], { dtype: "float64" }).add(0.5).requiresGrad_()
        model.call(image).logits.select(3, x).select(2, y).sum().backward()
        touched = touched.add(image.grad!.abs().sum({ dim: [0, 1] }))
      }
      return [1, 0].map((dim) => touched.sum({ dim }).toArray() as number[])
    })
    const spans = seen.map((line) => [line.findIndex((v) => v > 0), line.findLastIndex((v) => v > 0)])
    const inside = ([a, b]: readonly [number, number]) => [Math.max(0, a), Math.min(size - 1, b)]
    expect({ pixel: [y, x], spans }).toEqual({ pixel: [y, x], spans: [inside(window.rows), inside(window.columns)] })
  }
})
