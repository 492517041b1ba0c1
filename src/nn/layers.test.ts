// What layers refuse, and the functions between them. That layers compute what PyTorch's do: tests/parity.
import "../../tests/all-levers.ts"
import { expect, test } from "vitest"
import { arange, aten, full, grad, levers, noGrad, ones, randn, type Tensor, tidy, zeros } from "../torch/index.ts"
import {
  BatchNorm2d,
  Conv2d,
  ConvTranspose2d,
  cropTo,
  GroupNorm,
  init,
  interpolate,
  padToMultiple,
  softmax,
} from "./index.ts"

const image = (height: number, width: number): Tensor => arange(height * width).view([1, 1, height, width])

test("batch-norm with one value per channel uses its running statistics, and leaves them", () => {
  using layer = new BatchNorm2d(4)
  layer.running_mean.fill_(3)
  const x = full([1, 4, 1, 1], 5).requiresGrad_()
  const y = layer.call(x)
  expect(y.shape).toEqual([1, 4, 1, 1])
  expect(y.data()[0]).toBeCloseTo(2, 4)
  y.sum().backward()
  expect(x.grad!.data()[0]).toBeCloseTo(1, 4)
  expect(layer.num_batches_tracked.item()).toBe(0)
  expect(layer.running_mean.data()).toEqual(Float32Array.of(3, 3, 3, 3))
  layer.call(ones([2, 4, 1, 1])) // two values are enough
  expect(layer.num_batches_tracked.item()).toBe(1)
})

test("frozen batch-norm computes in training what it does in eval", () => {
  using layer = new BatchNorm2d(2)
  layer.frozen = true
  const y = layer.call(zeros([2, 2, 3, 3]).add(5))
  expect(y.data()[0]).toBeCloseTo(5, 4)
  expect(layer.running_mean.data()).toEqual(Float32Array.of(0, 0))
  y.sum().backward()
  expect(layer.bias.grad!.data()).toEqual(Float32Array.of(18, 18))
})

test("batch-norm in eval mode does not move its statistics", () => {
  using layer = new BatchNorm2d(2).eval()
  layer.call(zeros([2, 2, 3, 3]).add(5))
  expect(layer.running_mean.data()).toEqual(Float32Array.of(0, 0))
  expect(layer.num_batches_tracked.item()).toBe(0)
})

test("channels must divide into groups", () => {
  expect(() => new GroupNorm(4, 6)).toThrow("GroupNorm: 6 channels cannot be split into 4 groups.")
  expect(() => new Conv2d(4, 6, 3, { groups: 4 })).toThrow("Conv2d: 4 -> 6 channels cannot be split into 4 groups.")
})

test("padToMultiple pads bottom and right with zeros; cropTo undoes it", () => {
  const padded = padToMultiple(image(2, 3), 4)
  expect(padded.toArray()).toEqual([
    [
      [
        [0, 1, 2, 0],
        [3, 4, 5, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
      ],
    ],
  ])
  expect(cropTo(padded, [2, 3]).data()).toEqual(image(2, 3).data())
})

test("padding and cropping nothing give fresh tensors", () => {
  const x = image(4, 8)
  for (const same of [padToMultiple(x, 4), cropTo(x, [4, 8])]) {
    expect(same).not.toBe(x)
    expect(same.data()).toEqual(x.data())
    same.dispose()
  }
  expect(x.isDisposed).toBe(false)
})

test("an empty image cannot be padded", () => {
  expect(() => padToMultiple(zeros([1, 3, 0, 5]), 4)).toThrow("padToMultiple: the image float32[1, 3, 0, 5] is empty.")
})

test("interpolate to the same size changes nothing, in any mode", () => {
  const x = image(3, 4)
  for (const options of [{}, { alignCorners: true }, { mode: "nearest" as const }]) {
    expect(interpolate(x, [3, 4], options).data()).toEqual(x.data())
  }
})

test("bilinear source positions, worked by hand: a row 0, 1 enlarged to four", () => {
  // half-pixel rule: positions -0.25 (the edge: 0), 0.25, 0.75, 1.25 (the edge: 1)
  expect(interpolate(image(1, 2), [1, 4]).data()).toEqual(Float32Array.of(0, 0.25, 0.75, 1))
  // aligned corners: 0, 1/3, 2/3, 1
  const aligned = interpolate(image(1, 2), [1, 4], { alignCorners: true }).data() as Float32Array
  for (const [i, value] of [0, 1 / 3, 2 / 3, 1].entries()) expect(aligned[i]).toBeCloseTo(value, 6)
  expect(interpolate(image(1, 2), [1, 4], { mode: "nearest" }).data()).toEqual(Float32Array.of(0, 0, 1, 1))
})

test("softmax sums to 1 along its axis", () => {
  expect(softmax(image(2, 3), 3).sum({ dim: 3 }).data()).toEqual(Float32Array.of(1, 1))
})

test("fans: inputs and outputs per unit", () => {
  expect(init.fans(zeros([8, 3, 5, 5]))).toEqual({ fanIn: 75, fanOut: 200 })
  expect(init.fans(zeros([4, 6]))).toEqual({ fanIn: 6, fanOut: 4 })
  expect(() => init.fans(zeros([3]))).toThrow("Fans need a weight of at least 2 axes, got float32[3].")
})

test("initialisers leave no history, with and without noGrad", () => {
  using conv = new Conv2d(2, 2, 1)
  init.kaimingNormal_(conv.weight)
  init.truncNormal_(conv.weight, { std: 0.02 })
  init.constant_(conv.weight, 0.5)
  expect(conv.weight.isLeaf && conv.weight.requiresGrad).toBe(true)
  expect(new Set(conv.weight.data() as Float32Array)).toEqual(new Set([0.5]))
  using _ = noGrad()
  expect(conv.call(ones([1, 2, 1, 1])).requiresGrad).toBe(false)
})

test("a dilated convolution of two channels a group, which is not depthwise, learns", () => {
  using conv = new Conv2d(4, 2, 3, { groups: 2, dilation: 2 })
  tidy(() => {
    const y = conv.call(randn([1, 4, 7, 7]).permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]))
    y.sum().backward()
    expect(y.shape).toEqual([1, 2, 3, 3])
    expect(conv.weight.grad?.shape).toEqual([2, 2, 3, 3])
  })
})

test.each([
  { x: [2, 3, 4, 5], kernel: 2 },
  { x: [1, 6, 1, 1], kernel: 2 },
  { x: [3, 4, 2, 3], kernel: [3, 1] },
  { x: [2, 2, 5, 4], kernel: 1, bias: false },
] as const)("a transposed convolution with windows side by side is a product where channels are: %o", (of) => {
  const { x: shape, kernel, bias = true } = { bias: true, ...of }
  using conv = new ConvTranspose2d(shape[1], 3, kernel, { stride: kernel, bias })
  conv.to({ dtype: "float64", memoryFormat: "channels_last" })
  tidy(() => {
    const x = randn(shape, { dtype: "float64" }).permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
    const run = () => {
      const image = x.detach().requiresGrad_()
      const y = conv.call(image)
      const dy = y.detach().mul(y.detach())
      const leaves = [image, ...conv.parameters()]
      return { y, all: [y, ...grad([y], leaves, { gradients: [dy] })] as Tensor[] }
    }
    const ours = run()
    expect(ours.y.strides[1]).toBe(1)
    levers.transposed = false
    const libtorchs = run()
    levers.transposed = true
    for (const [k, exact] of libtorchs.all.entries()) {
      expect(ours.all[k]!.shape).toEqual(exact.shape)
      expect(ours.all[k]!.sub(exact).abs().max().item()).toBeLessThan(1e-13) // sums of at most 60 terms of about 1
    }
  })
})

test("a transposed convolution with windows that overlap, or with a gap, stays libtorch's", () => {
  tidy(() => {
    const x = randn([1, 4, 3, 3]).permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
    for (const [kernel, options, size] of [
      [3, { stride: 2 }, 7],
      [2, { stride: 3 }, 8],
      [2, { stride: 2, padding: 1 }, 4],
      [2, { stride: 2, outputPadding: 1 }, 7],
    ] as const) {
      const conv = new ConvTranspose2d(4, 2, kernel, options)
      const exact = aten.conv_transpose2d_input(x, conv.weight, { bias: conv.bias, ...options })
      expect(conv.call(x).shape).toEqual([1, 2, size, size])
      expect(conv.call(x).sub(exact).abs().max().item()).toBe(0)
    }
  })
})
