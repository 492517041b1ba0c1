// MobileNetV3: MobileNetV2's blocks, with a channel attention in some and layer widths that a search has found.
// Howard et al. 2019, https://arxiv.org/abs/1905.02244
//
//   image -> 3x3/2 -> blocks ... -> 1x1 [6 c]
// Feature maps are those of torchvision: where a stride is reached, and the last.
import { Conv2d, Hardswish, init, Module, ReLU, Sequential } from "../../nn/index.ts"
import { aten, type Tensor } from "../../torch/index.ts"
import { ConvNormActivation, makeDivisible } from "../blocks.ts"
import { ChainEncoder, type EncoderOptions, type Tap } from "./encoder.ts"

type BlockRow = readonly [
  kernel: number,
  hidden: number,
  out: number,
  attention: boolean,
  activation: "relu" | "hardswish",
  stride: number,
]

// Tables 1 and 2 of the paper.
const tables = {
  mobilenet_v3_large: [
    [3, 16, 16, false, "relu", 1],
    [3, 64, 24, false, "relu", 2],
    [3, 72, 24, false, "relu", 1],
    [5, 72, 40, true, "relu", 2],
    [5, 120, 40, true, "relu", 1],
    [5, 120, 40, true, "relu", 1],
    [3, 240, 80, false, "hardswish", 2],
    [3, 200, 80, false, "hardswish", 1],
    [3, 184, 80, false, "hardswish", 1],
    [3, 184, 80, false, "hardswish", 1],
    [3, 480, 112, true, "hardswish", 1],
    [3, 672, 112, true, "hardswish", 1],
    [5, 672, 160, true, "hardswish", 2],
    [5, 960, 160, true, "hardswish", 1],
    [5, 960, 160, true, "hardswish", 1],
  ],
  mobilenet_v3_small: [
    [3, 16, 16, true, "relu", 2],
    [3, 72, 24, false, "relu", 2],
    [3, 88, 24, false, "relu", 1],
    [5, 96, 40, true, "hardswish", 2],
    [5, 240, 40, true, "hardswish", 1],
    [5, 240, 40, true, "hardswish", 1],
    [5, 120, 48, true, "hardswish", 1],
    [5, 144, 48, true, "hardswish", 1],
    [5, 288, 96, true, "hardswish", 2],
    [5, 576, 96, true, "hardswish", 1],
    [5, 576, 96, true, "hardswish", 1],
  ],
} as const satisfies Record<string, readonly BlockRow[]>

const norm = { eps: 1e-3, momentum: 0.01 }
const hardswish = () => new Hardswish()

export class MobileNetV3 extends ChainEncoder {
  constructor(name: keyof typeof tables, { outputStride = 32 }: Pick<EncoderOptions, "outputStride"> = {}) {
    let channels = 16
    let stride = 2
    let dilation = 1
    const layers: Module[] = [new ConvNormActivation(3, channels, 3, { stride: 2, norm, activation: hardswish })]
    const taps: Tap[] = [{ layer: 0, channels, stride }]
    for (const [kernel, hidden, out, attention, activation, wanted] of tables[name]) {
      // Unlike AtrousPlan, the block that would stride is dilated itself already: torchvision's weights were trained so.
      const strides = wanted > 1 && stride < outputStride
      if (strides) stride *= wanted
      else dilation *= wanted
      const options = { kernel, hidden, attention, activation, stride: strides ? wanted : 1, dilation }
      layers.push(new InvertedResidual(channels, out, { ...options, isResidual: wanted === 1 && channels === out }))
      channels = out
      if (wanted > 1) taps.push({ layer: layers.length - 1, channels, stride })
    }
    layers.push(new ConvNormActivation(channels, 6 * channels, 1, { norm, activation: hardswish }))
    taps[taps.length - 1] = { layer: layers.length - 1, channels: 6 * channels, stride }
    super(layers, taps)
    for (const [, module] of this.namedModules()) {
      if (!(module instanceof Conv2d)) continue
      init.kaimingNormal_(module.weight, { mode: "fan-out" })
      if (module.bias) init.constant_(module.bias, 0)
    }
  }
}

interface InvertedResidualOptions {
  kernel: number
  hidden: number
  attention: boolean
  activation: "relu" | "hardswish"
  stride: number
  dilation: number
  isResidual: boolean
}

class InvertedResidual extends Module {
  readonly block: Sequential
  readonly isResidual: boolean

  constructor(
    inChannels: number,
    outChannels: number,
    { kernel, hidden, attention, activation, stride, dilation, isResidual }: InvertedResidualOptions,
  ) {
    super()
    const act = activation === "relu" ? () => new ReLU() : hardswish
    this.block = new Sequential(
      ...(hidden === inChannels ? [] : [new ConvNormActivation(inChannels, hidden, 1, { norm, activation: act })]),
      new ConvNormActivation(hidden, hidden, kernel, { stride, dilation, groups: hidden, norm, activation: act }),
      ...(attention ? [new SqueezeExcitation(hidden, makeDivisible(hidden / 4))] : []),
      new ConvNormActivation(hidden, outChannels, 1, { norm, activation: null }),
    )
    this.isResidual = isResidual
  }

  protected override forward(x: Tensor): Tensor {
    const y = this.block.call(x)
    return this.isResidual ? y.add_(x) : y
  }
}

/** Scales each channel by what the image as a whole says about it. Hu et al. 2018, https://arxiv.org/abs/1709.01507 */
class SqueezeExcitation extends Module {
  readonly fc1: Conv2d
  readonly fc2: Conv2d

  constructor(channels: number, squeezed: number) {
    super()
    this.fc1 = new Conv2d(channels, squeezed, 1)
    this.fc2 = new Conv2d(squeezed, channels, 1)
  }

  protected override forward(x: Tensor): Tensor {
    const mean = aten.adaptive_avg_pool2d(x, 1) // [N, C, 1, 1]
    const scale = aten.hardsigmoid(this.fc2.call(aten.relu_(this.fc1.call(mean))))
    return x.mul(scale)
  }
}
