// SegNet: VGG-16 and its mirror image. Each pooling remembers where its maxima stood, and the decoder puts values back
// there, so edges stay sharp though no skip carries a map. Badrinarayanan et al. 2015, https://arxiv.org/abs/1511.00561
//
//   image -> 2 x [64] -> pool                                                       unpool -> [64], 1 x [K] -> logits
//                         | \- - - - - - - - - - - - positions - - - - - - - - - -> /
//                         `-> 2 x [128] -> pool                        unpool -> [128], [64]
//                                           | \- - - - positions - - - -> /
//                                           `-> ... three times more ... -'
import { UserError } from "../errors.ts"
import { Conv2d, cropTo, init, MaxPool2d, Module, padToMultiple, Sequential } from "../nn/index.ts"
import { aten, type Tensor } from "../torch/index.ts"
import { ConvNormActivation } from "./blocks.ts"
import type { Encoder } from "./encoders/index.ts"
import { VGG16, vgg16Stages } from "./encoders/vgg.ts"
import type { SegmentationModel, SegmentationOutput } from "./model.ts"

export class SegNet extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly backbone: VGG16
  readonly decoder: readonly Sequential[] // decoder[i] mirrors the encoder's stage i
  readonly stride = 32
  readonly logitLayers: readonly string[]

  constructor(encoder: Encoder, { numClasses }: { numClasses: number }) {
    super()
    if (!(encoder instanceof VGG16)) {
      throw new UserError(
        "SegNet puts values back where VGG's pooling took them from: its encoder can only be vgg16_bn. Take linknet or unet for another one.",
      )
    }
    if (encoder.strides.at(-1) !== this.stride) {
      throw new UserError(
        `SegNet undoes every pooling: its outputStride can only be 32, got ${encoder.strides.at(-1)}.`,
      )
    }
    this.backbone = encoder
    this.decoder = vgg16Stages.map(([convolutions, channels], i) => {
      const same = Array.from({ length: convolutions - 1 }, () => new ConvNormActivation(channels, channels, 3))
      const above = vgg16Stages[i - 1]
      const last = above
        ? new ConvNormActivation(channels, above[1], 3)
        : new Conv2d(channels, numClasses, 3, { padding: 1 })
      return new Sequential(...same, last)
    })
    this.logitLayers = ["decoder.0.1"]
    for (const [name, module] of this.namedModules()) {
      if (module instanceof Conv2d && name.startsWith("decoder")) {
        init.kaimingNormal_(module.weight, { nonlinearity: "relu" })
      }
    }
  }

  protected override forward(image: Tensor): SegmentationOutput {
    let x = padToMultiple(image, this.stride) // [N, 3, H, W] with H, W divisible by 32
    const pooled: { positions: Tensor; size: number[] }[] = []
    for (const layer of this.backbone.layers) {
      if (layer instanceof MaxPool2d) {
        const size = x.shape.slice(2)
        const [maxima, positions] = aten.max_pool2d_with_indices(x, 2)
        pooled.push({ positions, size })
        x = maxima // [N, C_i, H / 2^(i + 1), W / 2^(i + 1)]
      } else {
        x = layer.call(x)
      }
    }
    for (let i = this.decoder.length - 1; i >= 0; i--) {
      const { positions, size } = pooled[i]!
      x = this.decoder[i]!.call(aten.max_unpool2d(x, positions, size)) // [N, C_(i - 1), H / 2^i, W / 2^i]
    }
    return { logits: cropTo(x, [image.size(2), image.size(3)]) }
  }
}
