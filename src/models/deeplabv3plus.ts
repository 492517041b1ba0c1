// DeepLabV3+: DeepLabV3 with a small decoder that takes edges from a map at stride 4, and 3x3 convolutions split in two.
// Chen et al. 2018, https://arxiv.org/abs/1802.02611
//
//   image -> encoder -.- high (stride 16) -> ASPP [256] -> enlarge -.
//                     `- low (stride 4) ---> 1x1 [48] ------- concat -> 3x3 -> 3x3 -> 1x1 -> enlarge -> logits
import { Conv2d, interpolate, Module, Sequential } from "../nn/index.ts"
import { aten, type Tensor } from "../torch/index.ts"
import { ConvNormActivation, SeparableConvNormActivation } from "./blocks.ts"
import { ASPP, ratesAt } from "./deeplabv3.ts"
import type { Encoder } from "./encoders/index.ts"
import { atStride, enlarge, type SegmentationModel, type SegmentationOutput } from "./model.ts"

export interface DeepLabV3PlusOptions {
  numClasses: number
  /** Default: 6, 12, 18 at output stride 16; at others what sees the same part of the image. */
  atrousRates?: readonly number[]
}

export class DeepLabV3Plus extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly backbone: Encoder
  readonly aspp: ASPP
  readonly reduce: ConvNormActivation
  readonly decoder: Sequential
  readonly stride: number
  upsampleLogits = true
  alignCorners = false
  readonly logitLayers: readonly string[] = ["decoder.2"]
  readonly #low: number

  constructor(encoder: Encoder, { numClasses, atrousRates = ratesAt(encoder) }: DeepLabV3PlusOptions) {
    super()
    this.#low = atStride(encoder, 4)
    this.backbone = encoder
    this.aspp = new ASPP(encoder.channels.at(-1)!, atrousRates, { separable: true, dropout: 0.1 }) // the authors' code
    this.reduce = new ConvNormActivation(encoder.channels[this.#low]!, 48, 1)
    this.decoder = new Sequential(
      new SeparableConvNormActivation(256 + 48, 256, 3),
      new SeparableConvNormActivation(256, 256, 3),
      new Conv2d(256, numClasses, 1),
    )
    this.stride = encoder.strides.at(-1)!
  }

  protected override forward(image: Tensor): SegmentationOutput {
    const features = this.backbone.call(image) // features[i]: [N, C_i, H/s_i, W/s_i]
    const low = this.reduce.call(features[this.#low]!) // [N, 48, H/4, W/4]
    const deep = this.aspp.call(features.at(-1)!) // [N, 256, H/s, W/s]
    const high = interpolate(deep, [low.size(2), low.size(3)], this) // [N, 256, H/4, W/4]
    const logits = this.decoder.call(aten.cat([high, low], { dim: 1 })) // [N, K, H/4, W/4]
    return { logits: enlarge(logits, image, this) }
  }
}
