// UNet on an encoder that has learned from other images: the expanding path as in unet.ts, and its skips from the
// encoder's maps. Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597; channels and nearest enlargement are those of
// https://github.com/qubvel-org/segmentation_models.pytorch.
//
//   image --------------------------------------> up [16] -> 3x3 -> logits
//      `-> f0 (stride 2) ----- skip ------> up [32] -'
//           `-> f1 (4) ------- skip --> up [64] -'
//                `-> f2 (8) -- skip -> up [128] -'
//                     `-> f3 -> skip -> up [256] -'
//                          `-> f4 -------'
import { Conv2d, interpolate, Module } from "../nn/index.ts"
import { aten, type Tensor } from "../torch/index.ts"
import { ConvNormActivation } from "./blocks.ts"
import type { Encoder } from "./encoders/index.ts"
import type { SegmentationModel, SegmentationOutput } from "./model.ts"

const decoderChannels = [16, 32, 64, 128, 256] // of the paths at strides 1, 2, 4, 8, 16

export class EncoderUNet extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly backbone: Encoder
  readonly up: readonly Up[] // up[i]: from map i to map i - 1; up[0] to the image, which gives no skip
  readonly head: Conv2d
  readonly stride: number
  readonly logitLayers: readonly string[] = ["head"]

  constructor(encoder: Encoder, { numClasses }: { numClasses: number }) {
    super()
    const { channels } = encoder
    this.backbone = encoder
    this.up = channels.map((c, i) => {
      const below = decoderChannels[i + 1]
      return new Up(i === channels.length - 1 ? c : below!, channels[i - 1] ?? 0, decoderChannels[i]!)
    })
    this.head = new Conv2d(decoderChannels[0]!, numClasses, 3, { padding: 1 })
    this.stride = encoder.strides.at(-1)!
  }

  protected override forward(image: Tensor): SegmentationOutput {
    const features = this.backbone.call(image) // features[i]: [N, C_i, H/s_i, W/s_i]
    let x = features.at(-1)!
    for (let i = this.up.length - 1; i >= 0; i--) {
      const skip = features[i - 1]
      const [, , h, w] = (skip ?? image).shape as [number, number, number, number]
      x = this.up[i]!.call(interpolate(x, [h, w], { mode: "nearest" }), skip) // [N, 16 2^i, h, w]
    }
    return { logits: this.head.call(x) }
  }
}

class Up extends Module<[Tensor, Tensor | undefined]> {
  readonly conv1: ConvNormActivation
  readonly conv2: ConvNormActivation

  constructor(inChannels: number, skipChannels: number, outChannels: number) {
    super()
    this.conv1 = new ConvNormActivation(inChannels + skipChannels, outChannels, 3)
    this.conv2 = new ConvNormActivation(outChannels, outChannels, 3)
  }

  protected override forward(x: Tensor, skip: Tensor | undefined): Tensor {
    return this.conv2.call(this.conv1.call(skip ? aten.cat([x, skip], { dim: 1 }) : x))
  }
}
