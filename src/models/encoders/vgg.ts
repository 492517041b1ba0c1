// VGG-16 with batch-norm: nothing but 3x3 convolutions, and a pooling after each stage.
// Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556
//
//   image -> 2 x [64] -> pool -> 2 x [128] -> pool -> 3 x [256] -> pool -> 3 x [512] -> pool -> 3 x [512] -> pool
//                         |                    |                    |                    |                    |
//                         f0  stride 2         f1  4                f2  8                f3  16               f4  32
// A feature map is what a pooling gives, so f2 and f3 are the pool3 and pool4 of FCN's paper.
import { BatchNorm2d, Conv2d, init, MaxPool2d, Module, ReLU } from "../../nn/index.ts"
import { aten, type Tensor } from "../../torch/index.ts"
import { AtrousPlan, ChainEncoder, type EncoderOptions, type Tap } from "./encoder.ts"

/** Convolutions and their channels, from one pooling to the next (column D of the paper's table 1). */
export const vgg16Stages = [
  [2, 64],
  [2, 128],
  [3, 256],
  [3, 512],
  [3, 512],
] as const

export class VGG16 extends ChainEncoder {
  constructor({ outputStride = 32 }: Pick<EncoderOptions, "outputStride"> = {}) {
    const plan = new AtrousPlan(outputStride)
    const layers: Module[] = []
    const taps: Tap[] = []
    let inChannels = 3
    for (const [convolutions, channels] of vgg16Stages) {
      for (let k = 0; k < convolutions; k++) {
        const { dilation } = plan.next(1)
        // Batch-norm subtracts the bias again, but torchvision's weights have it.
        const conv = new Conv2d(inChannels, channels, 3, { padding: dilation, dilation })
        init.kaimingNormal_(conv.weight, { mode: "fan-out", nonlinearity: "relu" })
        init.constant_(conv.bias!, 0)
        layers.push(conv, new BatchNorm2d(channels), new ReLU())
        inChannels = channels
      }
      const { stride, dilation } = plan.next(2)
      layers.push(stride === 2 ? new MaxPool2d(2) : new AtrousMaxPool2d(dilation))
      taps.push({ layer: layers.length - 1, channels, stride: plan.stride })
    }
    super(layers, taps, { minSide: 32 })
  }
}

/** 2x2 pooling that keeps the size: at every second pixel (of those `dilation` apart) what the strided one gives. */
class AtrousMaxPool2d extends Module {
  readonly dilation: number

  constructor(dilation: number) {
    super()
    this.dilation = dilation
  }

  protected override forward(x: Tensor): Tensor {
    const { dilation } = this
    const padded = aten.constant_pad_nd(x, [0, dilation, 0, dilation]) // zeros never win: ReLU came before
    return aten.max_pool2d(padded, 2, { stride: 1, dilation })
  }
}
