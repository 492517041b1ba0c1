// DeepLabV3: an encoder whose last strides became dilation, then the same map seen at several atrous rates at once (ASPP).
// Chen et al. 2017, https://arxiv.org/abs/1706.05587
//
//                     .- 1x1 ------------.
//                     |- 3x3, rate 6 ----|
//   image -> encoder -|- 3x3, rate 12 ---|- concat -> 1x1 -> 3x3 -> 1x1 -> logits
//                     |- 3x3, rate 18 ---|
//                     `- mean of image --'
import { UserError } from "../errors.ts"
import { AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, interpolate, Module, ReLU, Sequential } from "../nn/index.ts"
import { aten, type Tensor } from "../torch/index.ts"
import { ConvNormActivation, SeparableConvNormActivation } from "./blocks.ts"
import type { Encoder } from "./encoders/index.ts"
import { type AuxiliaryOptions, HeadModel } from "./head-model.ts"

export interface DeepLabV3Options extends AuxiliaryOptions {
  numClasses: number
  /** Default: 6, 12, 18 at output stride 16; at others what sees the same part of the image. */
  atrousRates?: readonly number[]
}

export class DeepLabV3 extends HeadModel {
  constructor(encoder: Encoder, { atrousRates = ratesAt(encoder), ...options }: DeepLabV3Options) {
    const createHead = (channels: number) =>
      new Sequential(
        new ASPP(channels, atrousRates), // [N, 256, H/16, W/16]
        new Conv2d(256, 256, 3, { padding: 1, bias: false }),
        new BatchNorm2d(256),
        new ReLU(),
        new Conv2d(256, options.numClasses, 1),
      )
    super(encoder, createHead, options)
  }
}

/** 6, 12, 18 at output stride 16; twice that at 8, half at 32. */
export function ratesAt(encoder: Encoder): readonly number[] {
  return [6, 12, 18].map((rate) => (rate * 16) / encoder.strides.at(-1)!)
}

/** Atrous spatial pyramid pooling: [N, C, H, W] -> [N, 256, H, W], each pixel described by surroundings of several sizes. */
export class ASPP extends Module {
  readonly convs: readonly Module[]
  readonly project: Sequential

  /**
   * @param atrousRates dilation of each 3x3 convolution, in pixels of the map
   * @param separable whether they are split in two, as in DeepLabV3+
   * @throws UserError when a rate is not a whole number of at least 1
   */
  constructor(
    inChannels: number,
    atrousRates: readonly number[],
    { outChannels = 256, dropout = 0.5, separable = false } = {},
  ) {
    super()
    if (atrousRates.some((rate) => !Number.isInteger(rate) || rate < 1)) {
      throw new UserError(
        `atrousRates is ${atrousRates.join(",")}; expected whole pixels of at least 1, such as 6,12,18.`,
      )
    }
    const Atrous = separable ? SeparableConvNormActivation : ConvNormActivation
    this.convs = [
      new ConvNormActivation(inChannels, outChannels, 1),
      ...atrousRates.map((dilation) => new Atrous(inChannels, outChannels, 3, { dilation })),
      new ImagePooling(inChannels, outChannels),
    ]
    this.project = new Sequential(
      new Conv2d(this.convs.length * outChannels, outChannels, 1, { bias: false }),
      new BatchNorm2d(outChannels),
      new ReLU(),
      new Dropout(dropout),
    )
  }

  protected override forward(x: Tensor): Tensor {
    const branches = this.convs.map((conv) => conv.call(x)) // each [N, 256, H, W]
    return this.project.call(aten.cat(branches, { dim: 1 }))
  }
}

/** The mean over the whole image, at every pixel. */
class ImagePooling extends Sequential {
  constructor(inChannels: number, outChannels: number) {
    super(
      new AdaptiveAvgPool2d(1),
      new Conv2d(inChannels, outChannels, 1, { bias: false }),
      new BatchNorm2d(outChannels),
      new ReLU(),
    )
  }

  protected override forward(x: Tensor): Tensor {
    return interpolate(super.forward(x), [x.size(2), x.size(3)]) // [N, C, 1, 1] -> [N, C, H, W]
  }
}
