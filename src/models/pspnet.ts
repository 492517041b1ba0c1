// PSPNet: averages the deepest map over grids of 1, 2, 3 and 6 cells a side, so that each pixel knows the scene it is in.
// Zhao et al. 2017, https://arxiv.org/abs/1612.01105
//
//                     .- to 1x1 -> 1x1 -> enlarge -.
//                     |- to 2x2 -> 1x1 -> enlarge -|
//   image -> encoder -|- to 3x3 -> 1x1 -> enlarge -|- concat -> 3x3 -> 1x1 -> logits
//                     |- to 6x6 -> 1x1 -> enlarge -|
//                     `----------------------------'
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout2d,
  interpolate,
  Module,
  ReLU,
  Sequential,
} from "../nn/index.ts"
import { aten, type Tensor } from "../torch/index.ts"
import { ConvNormActivation } from "./blocks.ts"
import type { Encoder } from "./encoders/index.ts"
import { type AuxiliaryOptions, HeadModel } from "./head-model.ts"

export interface PSPNetOptions extends AuxiliaryOptions {
  numClasses: number
}

export class PSPNet extends HeadModel {
  /** Unlike the others it has its auxiliary head unless told otherwise: it is part of the paper's training. */
  constructor(encoder: Encoder, { aux = true, ...options }: PSPNetOptions) {
    const createHead = (channels: number) => {
      const hidden = Math.floor(channels / 4) // 512 of a ResNet-50's 2048
      const pyramid = new PyramidPooling(channels, hidden)
      return new Sequential(
        pyramid, // [N, 2 C, H/8, W/8]
        new Conv2d(pyramid.outChannels, hidden, 3, { padding: 1, bias: false }),
        new BatchNorm2d(hidden),
        new ReLU(),
        new Dropout2d(0.1),
        new Conv2d(hidden, options.numClasses, 1),
      )
    }
    super(encoder, createHead, { aux, ...options })
  }
}

/** [N, C, H, W] -> [N, C + bins hidden, H, W]: the map, and its means over ever smaller cells. */
class PyramidPooling extends Module {
  readonly outChannels: number
  readonly levels: readonly Sequential[]

  constructor(inChannels: number, hidden: number, bins: readonly number[] = [1, 2, 3, 6]) {
    super()
    this.outChannels = inChannels + bins.length * hidden
    this.levels = bins.map(
      (bin) => new Sequential(new AdaptiveAvgPool2d(bin), new ConvNormActivation(inChannels, hidden, 1)),
    )
  }

  protected override forward(x: Tensor): Tensor {
    const size = [x.size(2), x.size(3)] as const
    return aten.cat([x, ...this.levels.map((level) => interpolate(level.call(x), size))], { dim: 1 })
  }
}
