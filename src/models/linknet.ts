// LinkNet: made for video. The skips are added, not concatenated, so the expanding path stays as narrow as the encoder.
// Chaurasia and Culurciello 2017, https://arxiv.org/abs/1707.03718
//
//   image                                          3x3 [32] -> 2x2 transposed -> logits
//      `-> f0 (stride 2) ---------- + <- decoder <------ + -'
//           `-> f1 (4) ------------------- + <- decoder -'
//                `-> f2 (8) ------ + <- decoder -'
//                     `-> f3 ...         decoder: 1x1 to a quarter -> 3x3 transposed, twice the size -> 1x1
//
// The paper's last decoder adds the pooled map at stride 4; here it adds f0 at stride 2, which every encoder has.
import { BatchNorm2d, ConvTranspose2d, fitTo, Module, ReLU, Sequential } from "../nn/index.ts"
import type { Tensor } from "../torch/index.ts"
import { ConvNormActivation } from "./blocks.ts"
import type { Encoder } from "./encoders/index.ts"
import type { SegmentationModel, SegmentationOutput } from "./model.ts"

export class LinkNet extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly backbone: Encoder
  readonly decoders: readonly Decoder[] // decoders[i]: from map i + 1 to map i
  readonly head: Sequential
  readonly stride: number
  readonly logitLayers: readonly string[] = ["head.1"]

  constructor(encoder: Encoder, { numClasses }: { numClasses: number }) {
    super()
    const { channels, strides } = encoder
    this.backbone = encoder
    this.decoders = channels.slice(0, -1).map((c, i) => new Decoder(channels[i + 1]!, c, strides[i + 1]! / strides[i]!))
    this.head = new Sequential(
      new ConvNormActivation(channels[0]!, 32, 3),
      new ConvTranspose2d(32, numClasses, 2, { stride: 2 }),
    )
    this.stride = strides.at(-1)!
  }

  protected override forward(image: Tensor): SegmentationOutput {
    const features = this.backbone.call(image) // features[i]: [N, C_i, H/s_i, W/s_i]
    let x = features.at(-1)!
    for (let i = this.decoders.length - 1; i >= 0; i--) {
      const skip = features[i]!
      x = fitTo(this.decoders[i]!.call(x), [skip.size(2), skip.size(3)]).add(skip) // [N, C_i, H/s_i, W/s_i]
    }
    return { logits: fitTo(this.head.call(x), [image.size(2), image.size(3)]) }
  }
}

/** [N, inChannels, H, W] -> [N, outChannels, factor H, factor W]; the factor is 1 where the encoder is dilated. */
class Decoder extends Sequential {
  constructor(inChannels: number, outChannels: number, factor: number) {
    const hidden = Math.ceil(inChannels / 4)
    super(
      new ConvNormActivation(inChannels, hidden, 1),
      new ConvTranspose2d(hidden, hidden, 3, { stride: factor, padding: 1, outputPadding: factor - 1, bias: false }),
      new BatchNorm2d(hidden),
      new ReLU(),
      new ConvNormActivation(hidden, outChannels, 1),
    )
  }
}
