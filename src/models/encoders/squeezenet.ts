// SqueezeNet 1.1: AlexNet's accuracy with a fiftieth of its parameters, by squeezing channels before each 3x3 convolution.
// Iandola et al. 2016, https://arxiv.org/abs/1602.07360; 1.1 is the authors' later and cheaper version.
//
//   image -> 3x3/2 -> pool/2 -> 2 fires -> pool/2 -> 2 fires -> pool/2 -> 4 fires
//              |                   |                    |                    |
//              f0  stride 2        f1  4                f2  8                f3  16
// Its convolution and poolings do not pad, so maps are up to two pixels smaller than the image over the stride.
import { Conv2d, init, MaxPool2d, Module, ReLU } from "../../nn/index.ts"
import { aten, type Tensor } from "../../torch/index.ts"
import { ChainEncoder } from "./encoder.ts"

export class SqueezeNet extends ChainEncoder {
  constructor() {
    const pool = () => new MaxPool2d(3, { stride: 2, ceilMode: true })
    const layers = [
      new Conv2d(3, 64, 3, { stride: 2 }),
      new ReLU(), // 1: stride 2
      pool(),
      new Fire(64, 16, 64),
      new Fire(128, 16, 64), // 4: stride 4
      pool(),
      new Fire(128, 32, 128),
      new Fire(256, 32, 128), // 7: stride 8
      pool(),
      new Fire(256, 48, 192),
      new Fire(384, 48, 192),
      new Fire(384, 64, 256),
      new Fire(512, 64, 256), // 12: stride 16
    ]
    const taps = [
      { layer: 1, channels: 64, stride: 2 },
      { layer: 4, channels: 128, stride: 4 },
      { layer: 7, channels: 256, stride: 8 },
      { layer: 12, channels: 512, stride: 16 },
    ]
    super(layers, taps, { minSide: 17 })
    for (const [, module] of this.namedModules()) {
      if (!(module instanceof Conv2d)) continue
      init.kaimingUniform_(module.weight)
      init.constant_(module.bias!, 0)
    }
  }
}

/** [N, C, H, W] -> [N, squeezed, H, W] -> [N, 2 expanded, H, W], half of it by 1x1 and half by 3x3 convolution. */
class Fire extends Module {
  readonly squeeze: Conv2d
  readonly expand1x1: Conv2d
  readonly expand3x3: Conv2d

  constructor(inChannels: number, squeezed: number, expanded: number) {
    super()
    this.squeeze = new Conv2d(inChannels, squeezed, 1)
    this.expand1x1 = new Conv2d(squeezed, expanded, 1)
    this.expand3x3 = new Conv2d(squeezed, expanded, 3, { padding: 1 })
  }

  protected override forward(x: Tensor): Tensor {
    const y = aten.relu_(this.squeeze.call(x))
    return aten.relu_(aten.cat([this.expand1x1.call(y), this.expand3x3.call(y)], { dim: 1 }))
  }
}
