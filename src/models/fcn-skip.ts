// FCN-32s, -16s and -8s: the first networks that learned segmentation whole. A classifier's dense layers become
// convolutions, its scores are enlarged, and finer maps add their own. Long et al. 2015, https://arxiv.org/abs/1411.4038
//
//   image -> ... f2 (8) -> f3 (16) -> f4 (32) -> fc6 7x7 -> fc7 1x1 -> score -- x32 --> FCN-32s
//                 |           |                                          | x2
//                 |         score --------------------------------------> + ---- x16 -> FCN-16s
//                 |                                                       | x2
//               score --------------------------------------------------> + ---- x8 --> FCN-8s
//
// Enlargements by two are learned, from bilinear ones; the last stays bilinear. The paper pads the image by 100 pixels and
// crops, here fc6 pads itself. With an encoder that ends at stride 16 all numbers halve.
import { Conv2d, ConvTranspose2d, Dropout, fitTo, init, Module, ReLU, Sequential } from "../nn/index.ts"
import { aten, fromData, noGrad, type Tensor } from "../torch/index.ts"
import type { Encoder } from "./encoders/index.ts"
import { enlarge, type SegmentationModel, type SegmentationOutput } from "./model.ts"

export interface FCNSkipOptions {
  numClasses: number
  /** How many finer maps add their scores: 0 is FCN-32s, 1 FCN-16s, 2 FCN-8s. */
  skips: 0 | 1 | 2
  /** Channels of fc6 and fc7. The paper's 4096 make 120 of the 134 million parameters. */
  width?: number
}

export class FCNSkip extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly backbone: Encoder
  readonly dense: Sequential
  readonly score: Conv2d
  readonly skips: readonly Skip[] // skips[0] is the coarsest
  readonly stride: number
  upsampleLogits = true
  readonly logitLayers: readonly string[]

  constructor(encoder: Encoder, { numClasses, skips, width = 4096 }: FCNSkipOptions) {
    super()
    const { channels, strides } = encoder
    const fc6 = new Conv2d(channels.at(-1)!, width, 7, { padding: 3 })
    const fc7 = new Conv2d(width, width, 1)
    for (const { weight, bias } of [fc6, fc7]) {
      init.kaimingNormal_(weight, { nonlinearity: "relu" })
      init.constant_(bias!, 0)
    }
    this.backbone = encoder
    this.dense = new Sequential(fc6, new ReLU(), new Dropout(), fc7, new ReLU(), new Dropout())
    this.score = scoreLayer(width, numClasses)
    this.skips = Array.from({ length: skips }, (_, k) => {
      const finer = -2 - k
      return new Skip(channels.at(finer)!, numClasses, strides.at(finer + 1)! / strides.at(finer)!)
    })
    this.stride = strides.at(-1)!
    this.logitLayers = ["score", ...this.skips.flatMap((_, k) => [`skips.${k}.enlarge`, `skips.${k}.score`])]
  }

  protected override forward(image: Tensor): SegmentationOutput {
    const features = this.backbone.call(image) // features[i]: [N, C_i, H/s_i, W/s_i]
    let scores = this.score.call(this.dense.call(features.at(-1)!)) // [N, K, H/32, W/32]
    for (const [k, skip] of this.skips.entries()) {
      scores = skip.call(scores, features.at(-2 - k)!) // [N, K, H/16, W/16], then [N, K, H/8, W/8]
    }
    return { logits: enlarge(scores, image, this) }
  }
}

class Skip extends Module<[Tensor, Tensor]> {
  readonly enlarge: ConvTranspose2d
  readonly score: Conv2d

  constructor(inChannels: number, numClasses: number, factor: number) {
    super()
    this.enlarge = bilinearEnlargement(numClasses, factor)
    this.score = scoreLayer(inChannels, numClasses)
  }

  protected override forward(scores: Tensor, map: Tensor): Tensor {
    return fitTo(this.enlarge.call(scores), [map.size(2), map.size(3)]).add(this.score.call(map))
  }
}

/** Starts at 0, as in the paper: a skip changes nothing before it has learned something. */
function scoreLayer(inChannels: number, numClasses: number): Conv2d {
  const conv = new Conv2d(inChannels, numClasses, 1)
  init.constant_(conv.weight, 0)
  init.constant_(conv.bias!, 0)
  return conv
}

/** A transposed convolution that enlarges each channel bilinearly, before it learns better. */
function bilinearEnlargement(channels: number, factor: number): ConvTranspose2d {
  const size = 2 * factor - (factor % 2)
  const padding = Math.floor(factor / 2)
  const conv = new ConvTranspose2d(channels, channels, size, { stride: factor, padding, bias: false })
  const profile = fromData(
    Float32Array.from({ length: size }, (_, i) => 1 - Math.abs(i - (size - 1) / 2) / factor), // 1/4 3/4 3/4 1/4
  )
  using _ = noGrad()
  const kernel = aten.outer(profile, profile) // [size, size]
  conv.weight.copy_(aten.eye(channels).view([channels, channels, 1, 1]).mul(kernel))
  return conv
}
