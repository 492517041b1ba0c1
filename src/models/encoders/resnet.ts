// ResNet: blocks that add to their input what they compute from it, so that a hundred of them still train.
// He et al. 2015, https://arxiv.org/abs/1512.03385. As in torchvision, Bottleneck strides in its 3x3 convolution (v1.5).
//
//   image -> 7x7/2 [64] -> pool/2 -> layer1 -> layer2/2 -> layer3/2 -> layer4/2
//              |                        |          |           |           |
//              f0  stride 2             f1  4      f2  8       f3  16      f4  32
import { UserError } from "../../errors.ts"
import { BatchNorm2d, Conv2d, chain, init, Module, Sequential } from "../../nn/index.ts"
import { aten, type Tensor } from "../../torch/index.ts"
import { AtrousPlan, type Encoder, type EncoderOptions } from "./encoder.ts"

export interface ResNetShape {
  readonly block: "basic" | "bottleneck"
  /** Blocks of the four stages. */
  readonly blocks: readonly [number, number, number, number]
}

export const resnetShapes = {
  resnet18: { block: "basic", blocks: [2, 2, 2, 2] },
  resnet34: { block: "basic", blocks: [3, 4, 6, 3] },
  resnet50: { block: "bottleneck", blocks: [3, 4, 6, 3] },
  resnet101: { block: "bottleneck", blocks: [3, 4, 23, 3] },
} as const satisfies Record<string, ResNetShape>

export class ResNet extends Module<[Tensor], Tensor[]> implements Encoder {
  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly layer1: Sequential
  readonly layer2: Sequential
  readonly layer3: Sequential
  readonly layer4: Sequential
  readonly channels: readonly number[]
  readonly strides: readonly number[]

  constructor(
    { block, blocks }: ResNetShape,
    { outputStride = 32, multiGrid }: Pick<EncoderOptions, "outputStride" | "multiGrid"> = {},
  ) {
    super()
    if (multiGrid && multiGrid.length !== blocks[3]) {
      throw new UserError(
        `multiGrid is ${multiGrid.join(",")}; expected ${blocks[3]} factors, one for each block of this ResNet's last stage.`,
      )
    }
    const Block = { basic: BasicBlock, bottleneck: Bottleneck }[block]
    const plan = new AtrousPlan(outputStride)
    plan.next(4) // conv1 and the pooling
    const strides = [2]
    let inChannels = 64

    const stage = (index: number, wanted: number): Sequential => {
      const planes = 64 * 2 ** index
      const first = plan.next(wanted)
      const modules = Array.from({ length: blocks[index] as number }, (_, k) => {
        const grid = index === 3 ? multiGrid?.[k] : undefined
        const dilation = plan.dilation * (grid ?? 1)
        // The first block's strided convolution sees what is not yet finer; with multi-grid the paper dilates it too.
        const options = k > 0 ? { dilation } : { ...first, ...(grid && { dilation }), dilationAfter: dilation }
        const made = new Block(inChannels, planes, options)
        inChannels = planes * Block.expansion
        return made
      })
      strides.push(plan.stride)
      return new Sequential(...modules)
    }

    this.conv1 = new Conv2d(3, 64, 7, { stride: 2, padding: 3, bias: false })
    this.bn1 = new BatchNorm2d(64)
    this.layer1 = stage(0, 1)
    this.layer2 = stage(1, 2)
    this.layer3 = stage(2, 2)
    this.layer4 = stage(3, 2)
    this.channels = [64, ...[64, 128, 256, 512].map((planes) => planes * Block.expansion)]
    this.strides = strides
    for (const [, module] of this.namedModules()) {
      if (module instanceof Conv2d) init.kaimingNormal_(module.weight, { mode: "fan-out", nonlinearity: "relu" })
    }
  }

  layersOf(map: number): readonly Module[] {
    const { conv1, bn1, layer1, layer2, layer3, layer4 } = this
    return [conv1, bn1, layer1, layer2, layer3, layer4].slice(0, map + 2)
  }

  protected override forward(image: Tensor): Tensor[] {
    const f0 = aten.relu(chain(image, this.conv1, this.bn1)) // [N, 64, H/2, W/2]
    const f1 = this.layer1.call(aten.max_pool2d(f0, 3, { stride: 2, padding: 1 })) // [N, 64 e, H/4, W/4], e = 1 or 4
    const f2 = this.layer2.call(f1) // [N, 128 e, H/8, W/8]
    const f3 = this.layer3.call(f2) // [N, 256 e, H/16, W/16]
    const f4 = this.layer4.call(f3) // [N, 512 e, H/32, W/32]
    return [f0, f1, f2, f3, f4]
  }
}

interface BlockOptions {
  stride?: number
  dilation?: number
  /** Of a 3x3 convolution that follows the strided one. */
  dilationAfter?: number
}

/** Two 3x3 convolutions: ResNet-18 and -34. */
class BasicBlock extends Module {
  static readonly expansion = 1
  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly conv2: Conv2d
  readonly bn2: BatchNorm2d
  readonly downsample: Sequential | null

  constructor(
    inChannels: number,
    planes: number,
    { stride = 1, dilation = 1, dilationAfter = dilation }: BlockOptions,
  ) {
    super()
    this.conv1 = new Conv2d(inChannels, planes, 3, { stride, padding: dilation, dilation, bias: false })
    this.bn1 = new BatchNorm2d(planes)
    this.conv2 = new Conv2d(planes, planes, 3, { padding: dilationAfter, dilation: dilationAfter, bias: false })
    this.bn2 = new BatchNorm2d(planes)
    this.downsample = shortcut(inChannels, planes, stride)
  }

  protected override forward(x: Tensor): Tensor {
    let y = aten.relu_(chain(x, this.conv1, this.bn1))
    y = chain(y, this.conv2, this.bn2)
    return aten.relu_(y.add_(this.downsample?.call(x) ?? x))
  }
}

/** 1x1 to a quarter of the channels, 3x3, 1x1 back: ResNet-50 and -101. */
class Bottleneck extends Module {
  static readonly expansion = 4
  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly conv2: Conv2d
  readonly bn2: BatchNorm2d
  readonly conv3: Conv2d
  readonly bn3: BatchNorm2d
  readonly downsample: Sequential | null

  constructor(inChannels: number, planes: number, { stride = 1, dilation = 1 }: BlockOptions) {
    super()
    this.conv1 = new Conv2d(inChannels, planes, 1, { bias: false })
    this.bn1 = new BatchNorm2d(planes)
    this.conv2 = new Conv2d(planes, planes, 3, { stride, padding: dilation, dilation, bias: false })
    this.bn2 = new BatchNorm2d(planes)
    this.conv3 = new Conv2d(planes, 4 * planes, 1, { bias: false })
    this.bn3 = new BatchNorm2d(4 * planes)
    this.downsample = shortcut(inChannels, 4 * planes, stride)
  }

  protected override forward(x: Tensor): Tensor {
    let y = aten.relu_(chain(x, this.conv1, this.bn1))
    y = aten.relu_(chain(y, this.conv2, this.bn2))
    y = chain(y, this.conv3, this.bn3)
    return aten.relu_(y.add_(this.downsample?.call(x) ?? x))
  }
}

/** What brings the input to the output's shape, where it has another. */
function shortcut(inChannels: number, outChannels: number, stride: number): Sequential | null {
  if (stride === 1 && inChannels === outChannels) return null
  return new Sequential(new Conv2d(inChannels, outChannels, 1, { stride, bias: false }), new BatchNorm2d(outChannels))
}
