// Full-Jacobian gradient checks of what we put together from libtorch's operators.
import "../all-levers.ts"
import { expect, test } from "vitest"
import { crossEntropy } from "../../src/losses/index.ts"
import { UNet } from "../../src/models/index.ts"
import {
  BatchNorm2d,
  Conv2d,
  cropTo,
  GroupNorm,
  interpolate,
  Module,
  padToMultiple,
  ReLU,
  Sequential,
  Upsample,
} from "../../src/nn/index.ts"
import { Generator, manualSeed, randn, type Tensor, tensor, tidy } from "../../src/torch/index.ts"
import { gradcheck } from "./gradcheck.ts"

const input = (shape: readonly number[], seed = 1) =>
  randn(shape, { dtype: "float64", requiresGrad: true, generator: new Generator(seed) })

test("pad, pool grid, enlarge, crop", () => {
  const x = input([1, 2, 3, 5])
  for (const options of [{}, { alignCorners: true }, { mode: "nearest" as const }]) {
    const fn = () => tidy(() => cropTo(interpolate(padToMultiple(x, 4), [6, 9], options), [5, 7]))
    expect(gradcheck(fn, [x])).toBe(70 * 30)
  }
})

test("padding and cropping that change nothing still pass gradients", () => {
  const x = input([1, 1, 4, 4])
  expect(gradcheck(() => cropTo(padToMultiple(x, 4), [4, 4]), [x])).toBe(256)
})

test("enlarging by a broken factor", () => {
  const x = input([1, 1, 3, 5])
  for (const mode of ["bilinear", "nearest"] as const) {
    expect(gradcheck(() => new Upsample(1.5, { mode }).call(x), [x])).toBe(28 * 15)
  }
})

test("a small network with group-norm, of its input and every parameter", () => {
  manualSeed(1)
  using net = new Sequential(new Conv2d(2, 4, 3, { padding: 1 }), new GroupNorm(2, 4), new ReLU(), new Conv2d(4, 2, 1))
  net.to({ dtype: "float64" })
  const x = input([1, 2, 3, 4])
  expect(gradcheck(() => net.call(x), [x, ...net.parameters()])).toBe(24 * (24 + 76 + 8 + 10))
})

test("batch-norm in training mode: each output depends on the whole batch", () => {
  using layer = new BatchNorm2d(2).to({ dtype: "float64" })
  const x = input([2, 2, 2, 3])
  expect(gradcheck(() => layer.call(x), [x, ...layer.parameters()])).toBe(24 * 28)
})

test.each(["transposed", "bilinear"] as const)("a small UNet in eval mode at an odd size, %s", (upsampling) => {
  manualSeed(2)
  using model = new UNet({ numClasses: 2, inChannels: 1, width: 2, depth: 1, upsampling })
  model.to({ dtype: "float64" }).eval()
  const x = input([1, 1, 3, 5])
  const parameters = model.parameters()
  const count = parameters.reduce((sum, parameter) => sum + parameter.numel, x.numel)
  expect(gradcheck(() => model.call(x).logits, [x, ...parameters])).toBe(30 * count)
})

test("the loss of a small UNet in training mode, through batch-norm's statistics", () => {
  manualSeed(3)
  using model = new UNet({ numClasses: 3, inChannels: 1, width: 2, depth: 1 })
  model.to({ dtype: "float64" })
  const x = input([2, 1, 3, 3], 4)
  const rows = [
    [0, 1, 255],
    [2, 2, 1],
    [255, 0, 1],
  ]
  const target = tensor([rows, rows.toReversed()], { dtype: "int64" })
  gradcheck(() => tidy(() => crossEntropy(model.call(x).logits, target)), [x, ...model.parameters()])
})

/** ReLU whose gradient forgets the mask, to see the checks above fail. */
class WrongReLU extends Module {
  protected override forward(x: Tensor): Tensor {
    return x.add(new ReLU().call(x).sub(x).detach())
  }
}

test("a wrong layer inside a network is found", () => {
  manualSeed(1)
  using net = new Sequential(new Conv2d(1, 2, 1), new WrongReLU(), new Conv2d(2, 1, 1))
  net.to({ dtype: "float64" })
  const x = input([1, 1, 2, 2])
  expect(() => gradcheck(() => net.call(x), [x])).toThrow(/Gradient wrong in \d+ of 16 entries/)
})
