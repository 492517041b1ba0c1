// MobileNetV2: blocks that widen, filter each channel by itself, and narrow again, with the shortcut between the narrow ends.
// Sandler et al. 2018, https://arxiv.org/abs/1801.04381
//
//   image -> 3x3/2 -> 1 block -> 2 blocks/2 -> 3 blocks/2 -> 4 blocks/2 -> 3 -> 3 blocks/2 -> 1 -> 1x1 [1280]
//                        |           |             |                       |                        |
//                        f0  2       f1  4         f2  8                   f3  16                   f4  32
import { BatchNorm2d, Conv2d, init, Module, ReLU6, Sequential } from "../../nn/index.ts"
import type { Tensor } from "../../torch/index.ts"
import { ConvNormActivation, makeDivisible } from "../blocks.ts"
import { AtrousPlan, ChainEncoder, type EncoderOptions, type Tap } from "./encoder.ts"

// How often a block widens, channels, blocks, stride of the first (table 2 of the paper).
const stages = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const

export class MobileNetV2 extends ChainEncoder {
  constructor({ width = 1, outputStride = 32, padding = "symmetric" }: Omit<EncoderOptions, "multiGrid"> = {}) {
    const plan = new AtrousPlan(outputStride)
    const same = padding === "tensorflow" ? "same" : undefined
    let channels = makeDivisible(32 * width)
    const last = makeDivisible(1280 * Math.max(1, width))

    const stem = { ...plan.next(2), padding: same, activation: relu6 } as const
    const layers: Module[] = [new ConvNormActivation(3, channels, 3, stem)]
    const taps: Tap[] = []
    for (const [expansion, c, blocks, wanted] of stages) {
      // A map is taken where the next stage strides: the last and best at its size.
      if (wanted === 2) taps.push({ layer: layers.length - 1, channels, stride: plan.stride })
      const outChannels = makeDivisible(c * width)
      for (let k = 0; k < blocks; k++) {
        const strides = k === 0 ? wanted : 1
        // Not by the stride that dilation leaves: narrow networks (width 0.1) have stages of as many channels as the last.
        const isResidual = strides === 1 && channels === outChannels
        const options = { expansion, ...plan.next(strides), padding: same, isResidual } as const
        layers.push(new InvertedResidual(channels, outChannels, options))
        channels = outChannels
      }
    }
    layers.push(new ConvNormActivation(channels, last, 1, { activation: relu6 }))
    taps.push({ layer: layers.length - 1, channels: last, stride: plan.stride })
    super(layers, taps)
    for (const [, module] of this.namedModules()) {
      if (module instanceof Conv2d) init.kaimingNormal_(module.weight, { mode: "fan-out" })
    }
  }
}

const relu6 = () => new ReLU6()

interface InvertedResidualOptions {
  expansion: number
  stride: number
  dilation: number
  padding: "same" | undefined
  isResidual: boolean
}

class InvertedResidual extends Module {
  readonly conv: Sequential
  readonly isResidual: boolean

  constructor(
    inChannels: number,
    outChannels: number,
    { expansion, stride, dilation, padding, isResidual }: InvertedResidualOptions,
  ) {
    super()
    const hidden = inChannels * expansion
    this.conv = new Sequential(
      ...(expansion === 1 ? [] : [new ConvNormActivation(inChannels, hidden, 1, { activation: relu6 })]),
      new ConvNormActivation(hidden, hidden, 3, { stride, dilation, padding, groups: hidden, activation: relu6 }),
      new Conv2d(hidden, outChannels, 1, { bias: false }), // no activation: it would destroy what a narrow map holds
      new BatchNorm2d(outChannels),
    )
    this.isResidual = isResidual
  }

  protected override forward(x: Tensor): Tensor {
    const y = this.conv.call(x)
    return this.isResidual ? y.add_(x) : y
  }
}
