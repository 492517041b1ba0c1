// LR-ASPP, "lite reduced": the head of MobileNetV3 for phones. One 1x1 convolution, weighted by what the whole image
// shows, and a skip from a finer map. Howard et al. 2019, section 6.4, https://arxiv.org/abs/1905.02244
//
//   image -> encoder -.- high -.- 1x1 -> batch-norm -> relu -.
//                     |        `- mean -> 1x1 -> sigmoid ----x- enlarge -> 1x1 -.
//                     `- low (stride 8) --------------------------------> 1x1 --+-> logits
import { AdaptiveAvgPool2d, Conv2d, interpolate, Module, Sequential, Sigmoid } from "../nn/index.ts"
import type { Tensor } from "../torch/index.ts"
import { ConvNormActivation } from "./blocks.ts"
import type { Encoder } from "./encoders/index.ts"
import { atStride, enlarge, type SegmentationModel, type SegmentationOutput } from "./model.ts"

export class LRASPP extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly backbone: Encoder
  readonly classifier: LRASPPHead
  readonly stride: number
  upsampleLogits = true
  readonly logitLayers: readonly string[] = ["classifier.low_classifier", "classifier.high_classifier"]
  readonly #low: number

  constructor(encoder: Encoder, { numClasses }: { numClasses: number }) {
    super()
    this.#low = atStride(encoder, 8)
    this.backbone = encoder
    this.classifier = new LRASPPHead(encoder.channels[this.#low]!, encoder.channels.at(-1)!, numClasses)
    this.stride = encoder.strides.at(-1)!
  }

  protected override forward(image: Tensor): SegmentationOutput {
    const features = this.backbone.call(image) // features[i]: [N, C_i, H/s_i, W/s_i]
    const logits = this.classifier.call(features[this.#low]!, features.at(-1)!) // [N, K, H/8, W/8]
    return { logits: enlarge(logits, image, this) }
  }
}

class LRASPPHead extends Module<[Tensor, Tensor]> {
  readonly cbr: ConvNormActivation
  readonly scale: Sequential
  readonly low_classifier: Conv2d
  readonly high_classifier: Conv2d

  constructor(lowChannels: number, highChannels: number, numClasses: number, hidden = 128) {
    super()
    this.cbr = new ConvNormActivation(highChannels, hidden, 1)
    this.scale = new Sequential(
      new AdaptiveAvgPool2d(1),
      new Conv2d(highChannels, hidden, 1, { bias: false }),
      new Sigmoid(),
    )
    this.low_classifier = new Conv2d(lowChannels, numClasses, 1)
    this.high_classifier = new Conv2d(hidden, numClasses, 1)
  }

  protected override forward(low: Tensor, high: Tensor): Tensor {
    const x = this.cbr.call(high).mul(this.scale.call(high)) // [N, 128, H/16, W/16]
    const enlarged = interpolate(x, [low.size(2), low.size(3)]) // [N, 128, H/8, W/8]
    return this.low_classifier.call(low).add(this.high_classifier.call(enlarged))
  }
}
