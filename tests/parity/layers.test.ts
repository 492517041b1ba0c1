// Every layer of src/nn against PyTorch's: output, gradient of the input and of each parameter.
import "../all-levers.ts"
import { expect, test } from "vitest"
import * as nn from "../../src/nn/index.ts"
import { fromData, type Tensor, tidy } from "../../src/torch/index.ts"
import { copyOf, expectClose, Golden } from "./golden.ts"

/** Resizing as a module, as generate.py has it. */
class Resize extends nn.Module {
  readonly size: readonly [number, number]
  readonly options: Parameters<typeof nn.interpolate>[2]

  constructor(size: readonly [number, number], options: Parameters<typeof nn.interpolate>[2] = {}) {
    super()
    this.size = size
    this.options = options
  }

  protected override forward(x: Tensor): Tensor {
    return nn.interpolate(x, this.size, this.options)
  }
}

// The table of generate.py in our words.
const layers: Record<string, () => nn.Module> = {
  conv: () => new nn.Conv2d(3, 4, 3),
  "conv 1x1 without bias": () => new nn.Conv2d(3, 5, 1, { bias: false }),
  "conv padding": () => new nn.Conv2d(3, 4, 3, { padding: 1 }),
  "conv stride, odd size": () => new nn.Conv2d(3, 4, 3, { stride: 2, padding: 1 }),
  "conv even kernel": () => new nn.Conv2d(2, 3, 2, { stride: 2 }),
  "conv dilation": () => new nn.Conv2d(2, 3, 3, { padding: 2, dilation: 2 }),
  "conv groups": () => new nn.Conv2d(4, 6, 3, { padding: 1, groups: 2 }),
  "conv depthwise": () => new nn.Conv2d(4, 4, 3, { stride: 2, padding: 1, groups: 4, bias: false }),
  "conv pairs": () => new nn.Conv2d(2, 3, [1, 5], { stride: [1, 2], padding: [0, 2], dilation: [1, 1] }),
  "transposed 2x2": () => new nn.ConvTranspose2d(4, 3, 2, { stride: 2 }),
  "transposed 3x3": () => new nn.ConvTranspose2d(3, 2, 3, { stride: 2, padding: 1, outputPadding: 1 }),
  "transposed without bias": () => new nn.ConvTranspose2d(3, 2, 4, { stride: 2, padding: 1, bias: false }),
  "group-norm": () => new nn.GroupNorm(2, 6),
  "group-norm, one group, eps": () => new nn.GroupNorm(1, 4, { eps: 0.1 }),
  relu: () => new nn.ReLU(),
  identity: () => new nn.Identity(),
  "max-pool": () => new nn.MaxPool2d(2),
  "max-pool ceil": () => new nn.MaxPool2d(2, { ceilMode: true }),
  "max-pool overlapping": () => new nn.MaxPool2d(3, { stride: 2, padding: 1 }),
  "avg-pool": () => new nn.AvgPool2d(2),
  "avg-pool counts padding": () => new nn.AvgPool2d(3, { stride: 2, padding: 1, ceilMode: true }),
  "avg-pool without padding": () => new nn.AvgPool2d(3, { stride: 2, padding: 1, countIncludePad: false }),
  "adaptive avg-pool": () => new nn.AdaptiveAvgPool2d([3, 2]),
  "adaptive avg-pool to one": () => new nn.AdaptiveAvgPool2d(1),
  "upsample nearest": () => new nn.Upsample(2),
  "upsample bilinear": () => new nn.Upsample(2, { mode: "bilinear" }),
  "upsample bilinear, aligned": () => new nn.Upsample(2, { mode: "bilinear", alignCorners: true }),
  "upsample by 1.5": () => new nn.Upsample(1.5, { mode: "bilinear" }),
  "upsample nearest by 1.7": () => new nn.Upsample(1.7),
  "resize to odd": () => new Resize([7, 10]),
  "resize to odd, aligned": () => new Resize([7, 10], { alignCorners: true }),
  "resize smaller": () => new Resize([3, 5]),
  "resize smaller, aligned": () => new Resize([3, 5], { alignCorners: true }),
  "resize nearest": () => new Resize([5, 7], { mode: "nearest" }),
  sequential: () =>
    new nn.Sequential(new nn.Conv2d(2, 4, 3), new nn.ReLU(), new nn.GroupNorm(2, 4), new nn.AvgPool2d(2)),
}

const golden = new Golden("layers")

// Measured: bit-equal on the libtorch that made the golden values. Another may sum in another order: float32 rounds at
// 6e-8, and the longest sums here have some 100 terms. An eps of 2e-5 instead of 1e-5 fails already.
const TOLERANCE = 2e-6

test("the table has the golden file's layers", () => {
  expect(new Set(Object.keys(layers))).toEqual(new Set([...golden.tensors.keys()].map((key) => key.split("/")[0])))
})

/** Forward and backward as generate.py's vjp(). */
function compare(layer: nn.Module, source: Golden, prefix: string): void {
  const x = copyOf(source.get(`${prefix}/input`)).requiresGrad_()
  layer.zeroGrad()
  const y = layer.call(x)
  expectClose(y, source.get(`${prefix}/output`), TOLERANCE, "output")
  y.backward({ gradient: source.get(`${prefix}/cotangent`) })
  expectClose(x.grad, source.get(`${prefix}/grad input`), TOLERANCE, "gradient of the input")
  for (const [name, parameter] of layer.namedParameters()) {
    expectClose(parameter.grad, source.get(`${prefix}/grad ${name}`), TOLERANCE, `gradient of ${name}`)
  }
}

test.each(Object.keys(layers))("%s", (name) => {
  tidy(() => {
    using layer = (layers[name] as () => nn.Module)()
    layer.loadStateDict(golden.under(`${name}/state `))
    compare(layer, golden, name)
  })
})

test.each([
  ["default", {}],
  ["momentum, eps", { momentum: 0.3, eps: 0.01 }],
] as const)("batch-norm (%s): three training steps, then eval, with running statistics after each", (name, options) => {
  const source = new Golden("batch-norm")
  using layer = new nn.BatchNorm2d(3, options)
  layer.loadStateDict(source.under(`${name}/state `))
  for (let step = 0; step < 4; step++) {
    layer.train(step < 3)
    tidy(() => compare(layer, source, `${name}/${step}`))
    for (const [key, buffer] of layer.namedBuffers()) {
      expectClose(buffer, source.get(`${name}/${step}/${key}`), TOLERANCE, `${key} after step ${step}`)
    }
  }
})

test("dropout in eval mode changes nothing", () => {
  const x = fromData(Float32Array.from({ length: 72 }, Math.random), [2, 4, 3, 3])
  for (const layer of [new nn.Dropout(0.5), new nn.Dropout2d(0.5)]) {
    const y = layer.eval().call(x)
    expect(y).not.toBe(x)
    expect(y.data()).toEqual(x.data())
  }
})

// The number of elements kept is binomial: 5 standard deviations are missed once in 2 million runs.
test("dropout keeps 1 - p of the elements and scales them, so that the mean stays", () => {
  const p = 0.3
  const x = fromData(new Float32Array(100 * 100 * 4).fill(1), [10, 1000, 2, 2])
  for (const [layer, trials] of [
    [new nn.Dropout(p), 40_000],
    [new nn.Dropout2d(p), 10_000],
  ] as const) {
    const y = layer.call(x).data() as Float32Array
    expect(new Set(y)).toEqual(new Set([0, Math.fround(1 / (1 - p))]))
    const kept = y.filter((value) => value > 0).length / y.length
    expect(Math.abs(kept - (1 - p))).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / trials))
  }
})

test("2-D dropout drops whole channels", () => {
  const y = new nn.Dropout2d(0.5)
    .call(fromData(new Float32Array(20 * 50 * 9).fill(1), [20, 50, 3, 3]))
    .data() as Float32Array
  for (let at = 0; at < y.length; at += 9) expect(new Set(y.subarray(at, at + 9)).size).toBe(1)
})
