// UNet: a contracting path that sees the context, an expanding path that puts it back in place, and skips between them.
// Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597
//
//   image -> [w] ---------------- skip ----------------> [w] -> 1x1 -> logits
//             `-> pool [2w] ------- skip ------> [2w] up -'
//                  `-> pool [4w] -- skip -> [4w] up -'
//                       `-> ...  [2^depth w] ...-'
//
// Two things differ from the paper, as in all its successors: convolutions are padded, so that the logits have the
// image's size, and batch-norm follows each of them.
import {
  BatchNorm2d,
  Conv2d,
  ConvTranspose2d,
  cropTo,
  interpolate,
  Module,
  padToMultiple,
  ReLU,
  Sequential,
} from "../nn/index.ts"
import { aten, type Tensor } from "../torch/index.ts"
import type { SegmentationModel, SegmentationOutput } from "./model.ts"

export interface UNetOptions {
  numClasses: number
  inChannels?: number
  /** Channels of the first level; each level below has twice as many. The paper's 64 costs four times the default. */
  width?: number
  /** How often the size is halved. */
  depth?: number
  /** How the expanding path enlarges: the paper's learned 2x2 transposed convolution, or bilinear and a 1x1 convolution. */
  upsampling?: "transposed" | "bilinear"
}

export class UNet extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly down: DoubleConv[] // down[i]: [N, C, H, W] -> [N, width 2^i, H, W]
  readonly up: Up[] // up[i] goes from level i + 1 to level i
  readonly head: Conv2d
  readonly stride: number
  readonly logitLayers: readonly string[] = ["head"]

  constructor({ numClasses, inChannels = 3, width = 32, depth = 4, upsampling = "transposed" }: UNetOptions) {
    super()
    const channels = Array.from({ length: depth + 1 }, (_, level) => width * 2 ** level)
    this.down = channels.map((c, level) => new DoubleConv(channels[level - 1] ?? inChannels, c))
    this.up = channels.slice(0, -1).map((c) => new Up(2 * c, c, upsampling))
    this.head = new Conv2d(width, numClasses, 1)
    this.stride = 2 ** depth
  }

  protected override forward(image: Tensor): SegmentationOutput {
    const [, , h, w] = image.shape as [number, number, number, number]
    let x = padToMultiple(image, this.stride) // [N, C, H, W] with H, W divisible by 2^depth
    const skips: Tensor[] = []
    for (const [level, conv] of this.down.entries()) {
      if (level > 0) x = aten.max_pool2d(x, 2)
      x = conv.call(x) // [N, width 2^level, H / 2^level, W / 2^level]
      skips.push(x)
    }
    for (let level = this.up.length - 1; level >= 0; level--) {
      x = (this.up[level] as Up).call(x, skips[level] as Tensor) // [N, width 2^level, H / 2^level, W / 2^level]
    }
    return { logits: cropTo(this.head.call(x), [h, w]) }
  }
}

class DoubleConv extends Sequential {
  constructor(inChannels: number, outChannels: number) {
    // No bias: batch-norm subtracts it again.
    super(
      new Conv2d(inChannels, outChannels, 3, { padding: 1, bias: false }),
      new BatchNorm2d(outChannels),
      new ReLU(),
      new Conv2d(outChannels, outChannels, 3, { padding: 1, bias: false }),
      new BatchNorm2d(outChannels),
      new ReLU(),
    )
  }
}

class Up extends Module<[Tensor, Tensor]> {
  readonly enlarge: ConvTranspose2d | Conv2d
  readonly conv: DoubleConv

  constructor(inChannels: number, outChannels: number, upsampling: "transposed" | "bilinear") {
    super()
    this.enlarge =
      upsampling === "transposed"
        ? new ConvTranspose2d(inChannels, outChannels, 2, { stride: 2 })
        : new Conv2d(inChannels, outChannels, 1)
    this.conv = new DoubleConv(2 * outChannels, outChannels)
  }

  protected override forward(below: Tensor, skip: Tensor): Tensor {
    const [, , h, w] = skip.shape as [number, number, number, number]
    let x = this.enlarge.call(below)
    // The 1x1 convolution and the bilinear enlargement commute; the convolution first costs a quarter.
    if (this.enlarge instanceof Conv2d) x = interpolate(x, [h, w])
    return this.conv.call(aten.cat([skip, x], { dim: 1 }))
  }
}
