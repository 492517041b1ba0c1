// Summaries of modules whose numbers can be worked out by hand.
import { expect, test } from "vitest"
import {
  aten,
  atrousConv2d,
  call,
  depthwiseConv2d,
  liveTensors,
  Parameter,
  pointwiseConv2d,
  record,
  type Tensor,
  winogradConv2d,
  zeros,
} from "../torch/index.ts"
import {
  BatchNorm2d,
  Conv2d,
  ConvTranspose2d,
  Dropout,
  formatSummary,
  Module,
  multiplyAdds,
  ReLU,
  Sequential,
  summary,
} from "./index.ts"
import { formatBytes, formatCount } from "./summary.ts"

class Head extends Module {
  readonly conv = new Conv2d(4, 2, 1)

  protected override forward(x: Tensor): Tensor {
    return this.conv.call(x)
  }
}

class Net extends Module<[Tensor], { logits: Tensor }> {
  readonly body = new Sequential(
    new Conv2d(3, 4, 3, { padding: 1, stride: 2, bias: false }),
    new BatchNorm2d(4),
    new ReLU(),
  )
  readonly mix = new Conv2d(4, 4, 3, { padding: 1, groups: 2 })
  readonly up = new ConvTranspose2d(4, 4, 2, { stride: 2 })
  readonly drop = new Dropout(0.5)
  readonly head = new Head()
  readonly aux = new Head()
  readonly scale = new Parameter(zeros([1]))

  protected override forward(x: Tensor): { logits: Tensor } {
    let y = this.body.call(x) // [N, 4, H/2, W/2]
    y = this.mix.call(this.mix.call(y))
    y = this.drop.call(this.up.call(y)) // [N, 4, H, W]
    return { logits: aten.relu_(this.head.call(y).mul(this.scale)) }
  }
}

test("rows: paths, shapes, parameters, multiply-adds and bytes of each call", () => {
  using net = new Net()
  const { rows, ...totals } = summary(net, [2, 3, 8, 6])
  const map = 2 * 4 * 4 * 3 // elements of [2, 4, 4, 3]
  const large = 2 * 4 * 8 * 6
  const logits = 2 * 2 * 8 * 6
  const mix = { path: "mix", type: "Conv2d", depth: 1, outputs: [[2, 4, 4, 3]], multiplyAdds: map * 2 * 9 }
  const plain = { isShared: false, parameters: 0, multiplyAdds: 0, activationBytes: 0 }
  expect(rows).toEqual([
    { ...plain, path: "", type: "Net", depth: 0, outputs: [[2, 2, 8, 6]], parameters: 1, activationBytes: 4 * logits },
    { ...plain, path: "body", type: "Sequential", depth: 1, outputs: [[2, 4, 4, 3]] },
    {
      ...{ path: "body.0", type: "Conv2d", depth: 2, outputs: [[2, 4, 4, 3]], isShared: false },
      ...{ parameters: 4 * 3 * 9, multiplyAdds: map * 3 * 9, activationBytes: 4 * map },
    },
    {
      ...{ ...plain, path: "body.1", type: "BatchNorm2d", depth: 2, outputs: [[2, 4, 4, 3]] },
      ...{ parameters: 8, activationBytes: 4 * map },
    },
    { ...plain, path: "body.2", type: "ReLU", depth: 2, outputs: [[2, 4, 4, 3]], activationBytes: 4 * map },
    { ...mix, isShared: false, parameters: 4 * 2 * 9 + 4, activationBytes: 4 * map },
    { ...mix, isShared: true, parameters: 0, activationBytes: 4 * map },
    {
      ...{ path: "up", type: "ConvTranspose2d", depth: 1, outputs: [[2, 4, 8, 6]], isShared: false },
      // 2 images, 4 x 3 input positions, each with a 2 x 2 kernel from 4 to 4 channels
      ...{ parameters: 4 * 4 * 4 + 4, multiplyAdds: 2 * 4 * 3 * 4 * 4 * 4, activationBytes: 4 * large },
    },
    { ...plain, path: "drop", type: "Dropout", depth: 1, outputs: [[2, 4, 8, 6]] }, // an alias
    { ...plain, path: "head", type: "Head", depth: 1, outputs: [[2, 2, 8, 6]] },
    {
      ...{ path: "head.conv", type: "Conv2d", depth: 2, outputs: [[2, 2, 8, 6]], isShared: false },
      ...{ parameters: 10, multiplyAdds: logits * 4, activationBytes: 4 * logits },
    },
    { ...plain, path: "aux", type: "Head", depth: 1, outputs: null, parameters: 10 },
  ])
  expect(totals).toEqual({
    inputShape: [2, 3, 8, 6],
    inputBytes: 4 * 2 * 3 * 8 * 6,
    parameters: 108 + 8 + 76 + 68 + 10 + 10 + 1,
    trainableParameters: 108 + 8 + 76 + 68 + 10 + 10 + 1,
    multiplyAdds: map * 27 + 2 * map * 18 + 2 * 12 * 64 + logits * 4,
    activationBytes: 4 * (5 * map + large + 2 * logits),
    receptiveField: { size: [11, 11], wholeImage: false }, // 3 + 2 * (2 + 2)
  })
})

test("the model stays as it was: modes, statistics, gradients, memory", () => {
  using net = new Net()
  net.body.modules[1]!.training = false
  const [, norm] = net.body.modules as [Module, BatchNorm2d]
  const modes = () => Array.from(net.namedModules(), ([path, { training }]) => [path, training])
  const before = modes()
  const live = liveTensors()
  summary(net, [1, 3, 4, 4])
  expect(() => summary(net, [1, 5, 4, 4])).toThrow(/aten::conv2d/)
  expect(modes()).toEqual(before)
  expect(liveTensors()).toBe(live)
  expect(norm.num_batches_tracked.item()).toBe(0)
  expect(norm.running_var.toArray()).toEqual([1, 1, 1, 1])
  expect(net.scale.grad).toBeNull()
})

test("frozen parameters are not trainable; a double model gets a double image", () => {
  using net = new Net()
  net.to({ dtype: "float64" })
  net.head.requiresGrad_(false)
  const { parameters, trainableParameters, inputBytes } = summary(net, [1, 3, 4, 4])
  expect(parameters - trainableParameters).toBe(10)
  expect(inputBytes).toBe(8 * 3 * 16)
})

test("parameters that two modules share count once", () => {
  const first = new Conv2d(3, 3, 1)
  const second = Object.assign(new Conv2d(3, 3, 1), { weight: first.weight })
  using net = new Sequential(first, second)
  const { rows, parameters } = summary(net, [1, 3, 2, 2])
  expect(rows.map((row) => [row.parameters, row.isShared])).toEqual([
    [0, false],
    [12, false],
    [3, true],
  ])
  expect(parameters).toBe(15)
})

test("a module that is made in forward has its caller's path", () => {
  class Inner extends Module {
    protected override forward(x: Tensor): Tensor {
      return x.neg()
    }
  }
  class Outer extends Module {
    protected override forward(x: Tensor): Tensor {
      return new Inner().call(x)
    }
  }
  expect(summary(new Outer(), [1, 1, 2, 2]).rows.map(({ path, type }) => [path, type])).toEqual([
    ["", "Outer"],
    ["", "Inner"],
  ])
})

test.each([
  [
    "aten::linear",
    [
      [5, 2, 3],
      [7, 3],
    ],
    5 * 2 * 7 * 3,
  ],
  [
    "aten::mm",
    [
      [5, 3],
      [3, 7],
    ],
    5 * 3 * 7,
  ],
  [
    "aten::matmul",
    [
      [4, 5, 3],
      [3, 7],
    ],
    4 * 5 * 3 * 7,
  ],
  [
    "aten::bmm",
    [
      [4, 5, 3],
      [4, 3, 7],
    ],
    4 * 5 * 3 * 7,
  ],
  ["aten::mv", [[5, 3], [3]], 15],
  ["aten::dot", [[3], [3]], 3],
  ["aten::addmm", [[7], [5, 3], [3, 7]], 5 * 3 * 7],
  [
    "aten::baddbmm",
    [
      [4, 5, 7],
      [4, 5, 3],
      [4, 3, 7],
    ],
    4 * 5 * 3 * 7,
  ],
  [
    "aten::conv1d",
    [
      [2, 3, 9],
      [4, 3, 5],
    ],
    2 * 4 * 5 * 3 * 5,
  ],
  [
    "aten::conv3d",
    [
      [1, 3, 4, 4, 4],
      [2, 3, 3, 3, 3],
    ],
    2 * 8 * 3 * 27,
  ],
  ["aten::add.Tensor", [[5], [5]], 0],
  [
    "aten::conv2d.padding",
    [
      [1, 3, 4, 4],
      [2, 3, 3, 3],
    ],
    2 * 4 * 27,
  ],
] as const)("multiply-adds of %s", (name, sizes, expected) => {
  const { operators } = record(() => call(name, ...sizes.map((size) => zeros(size))))
  expect(multiplyAdds(operators.at(-1)!)).toBe(expected)
})

test("multiply-adds of our own convolutions are those of libtorch's", () => {
  const { operators } = record(() => {
    const x = zeros([2, 4, 9, 8])
    pointwiseConv2d(x, zeros([5, 4, 1, 1]), null)
    atrousConv2d(x, zeros([5, 4, 3, 3]), null, 2)
    winogradConv2d(x, zeros([5, 4, 3, 3]), null, 2)
    depthwiseConv2d(x, zeros([4, 1, 3, 3]), { padding: [1, 1, 1, 1] })
  })
  const ours = operators.filter(({ name }) => name.startsWith("pixelwise::"))
  expect(ours.map(multiplyAdds)).toEqual([2 * 72 * 5 * 4, 2 * 72 * 5 * 36, 2 * 72 * 5 * 36, 2 * 72 * 4 * 9])
})

test("multiply-adds of einsum, and of the general convolution both ways", () => {
  const { operators } = record(() => {
    call("aten::einsum", "bik,bkj->bij", [zeros([2, 3, 4]), zeros([2, 4, 5])])
    call("aten::einsum", "...ik, kj", [zeros([2, 6, 3, 4]), zeros([4, 5])])
    const [x, weight] = [zeros([1, 4, 5, 5]), zeros([4, 2, 3, 3])]
    call("aten::convolution", x, weight, null, [1, 1], [0, 0], [1, 1], false, [0, 0], 2)
    call("aten::convolution", x, weight, null, [2, 2], [0, 0], [1, 1], true, [0, 0], 2)
  })
  const counts = operators.filter(({ name }) => name !== "aten::zeros").map(multiplyAdds)
  expect(counts).toEqual([2 * 3 * 4 * 5, 2 * 6 * 3 * 4 * 5, 4 * 9 * 2 * 9, 4 * 25 * 2 * 9])
})

test("the table: own numbers, collapsed ones at the last depth, columns that add up", () => {
  using net = new Net()
  const result = summary(net, [1, 3, 64, 64])
  expect(formatSummary(result, { depth: 1 })).toBe(
    `
layer                 output      parameters  multiply-adds  activations
------------------------------------------------------------------------
Net                   1x2x64x64            1                    32.0 KiB
  body Sequential     1x4x32x32          116          111 k     48.0 KiB
  mix Conv2d          1x4x32x32           76         73.7 k     16.0 KiB
  mix Conv2d          1x4x32x32       shared         73.7 k     16.0 KiB
  up ConvTranspose2d  1x4x64x64           68         65.5 k     64.0 KiB
  drop Dropout        1x4x64x64
  head Head           1x2x64x64           10         32.8 k     32.0 KiB
  aux Head            not called          10
------------------------------------------------------------------------
total                                    281          356 k      208 KiB

input            1x3x64x64, 48.0 KiB
trainable        all parameters
receptive field  11 x 11 pixels
`.trim(),
  )
  expect(formatSummary(result).split("\n")).toHaveLength(12 + 8)
  expect(formatSummary(result, { depth: 0 }).split("\n")[2]).toMatch(/^Net +1x2x64x64 +281 +356 k +208 KiB$/)
})

test("units", () => {
  expect([1, 999, 1000, 9223, 999_499, 999_500, 25_557_032, 4.089e9].map(formatCount)).toEqual(
    "1|999|1.00 k|9.22 k|999 k|1.00 M|25.6 M|4.09 G".split("|"),
  )
  expect([512, 1023, 1024, 1000 * 1024, 3 * 2 ** 20].map(formatBytes)).toEqual(
    "512 B|1023 B|1.00 KiB|1000 KiB|3.00 MiB".split("|"),
  )
  expect(formatCount(0)).toBe("")
})
