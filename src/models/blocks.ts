// Blocks that several models are made of. Sequential, so that state dicts have torchvision's names.
import { BatchNorm2d, Conv2d, type Module, ReLU, Sequential } from "../nn/index.ts"

export interface ConvNormOptions {
  stride?: number
  dilation?: number
  groups?: number
  /** Default: what keeps the size at stride 1. */
  padding?: number | "same"
  norm?: { eps?: number; momentum?: number }
  /** Default: ReLU; null: none. */
  activation?: (() => Module) | null
}

/** Convolution without bias (batch-norm subtracts it again), batch-norm, activation. Children: 0, 1, 2. */
export class ConvNormActivation extends Sequential {
  constructor(
    inChannels: number,
    outChannels: number,
    kernel: number,
    {
      stride = 1,
      dilation = 1,
      groups = 1,
      padding = dilation * ((kernel - 1) / 2),
      norm = {},
      activation = () => new ReLU(),
    }: ConvNormOptions = {},
  ) {
    super(
      new Conv2d(inChannels, outChannels, kernel, { stride, padding, dilation, groups, bias: false }),
      new BatchNorm2d(outChannels, norm),
      ...(activation ? [activation()] : []),
    )
  }
}

/** The same in two steps, which cost a ninth: each channel filtered by itself, then a 1x1 convolution. Children: 0, 1. */
export class SeparableConvNormActivation extends Sequential {
  constructor(inChannels: number, outChannels: number, kernel: number, { dilation = 1 } = {}) {
    super(
      new ConvNormActivation(inChannels, inChannels, kernel, { dilation, groups: inChannels }),
      new ConvNormActivation(inChannels, outChannels, 1),
    )
  }
}

/** Rounds channels to a multiple of 8, as MobileNets do, but never down by more than a tenth. */
export function makeDivisible(channels: number, divisor = 8): number {
  const rounded = Math.max(divisor, Math.floor((channels + divisor / 2) / divisor) * divisor)
  return rounded < 0.9 * channels ? rounded + divisor : rounded
}
