// Convolutions. Weights, defaults and names are PyTorch's.
import { aten, Parameter, ShapeError, type Tensor, zeros } from "../torch/index.ts"
import * as init from "./init.ts"
import { Module } from "./module.ts"

/** One number for both axes, or [height, width]. */
export type Pair = number | readonly [number, number]
export const pair = (size: Pair): readonly [number, number] => (typeof size === "number" ? [size, size] : size)

/** x [N, inChannels, H, W] -> [N, outChannels, H', W'], H' = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride + 1) */
export class Conv2d extends Module {
  readonly weight: Parameter // [outChannels, inChannels / groups, kernel, kernel]
  readonly bias: Parameter | null // [outChannels]
  readonly stride: Pair
  readonly padding: Pair
  readonly dilation: Pair
  readonly groups: number

  constructor(
    inChannels: number,
    outChannels: number,
    kernel: Pair,
    { stride = 1 as Pair, padding = 0 as Pair, dilation = 1 as Pair, groups = 1, bias = true } = {},
  ) {
    super()
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new ShapeError(`Conv2d: ${inChannels} -> ${outChannels} channels cannot be split into ${groups} groups.`)
    }
    this.weight = new Parameter(zeros([outChannels, inChannels / groups, ...pair(kernel)]))
    this.bias = bias ? new Parameter(zeros([outChannels])) : null
    this.stride = stride
    this.padding = padding
    this.dilation = dilation
    this.groups = groups
    init.torchDefault_(this.weight, this.bias)
  }

  protected override forward(x: Tensor): Tensor {
    const { weight, bias, stride, padding, dilation, groups } = this
    return aten.conv2d(x, weight, { bias, stride, padding, dilation, groups })
  }
}

/** x [N, inChannels, H, W] -> [N, outChannels, H', W'], H' = (H - 1) stride - 2 padding + kernel + outputPadding */
export class ConvTranspose2d extends Module {
  readonly weight: Parameter // [inChannels, outChannels, kernel, kernel]
  readonly bias: Parameter | null // [outChannels]
  readonly stride: Pair
  readonly padding: Pair
  readonly outputPadding: Pair

  constructor(
    inChannels: number,
    outChannels: number,
    kernel: Pair,
    { stride = 1 as Pair, padding = 0 as Pair, outputPadding = 0 as Pair, bias = true } = {},
  ) {
    super()
    this.weight = new Parameter(zeros([inChannels, outChannels, ...pair(kernel)]))
    this.bias = bias ? new Parameter(zeros([outChannels])) : null
    this.stride = stride
    this.padding = padding
    this.outputPadding = outputPadding
    init.torchDefault_(this.weight, this.bias)
  }

  protected override forward(x: Tensor): Tensor {
    const { weight, bias, stride, padding, outputPadding } = this
    return aten.conv_transpose2d_input(x, weight, { bias, stride, padding, outputPadding })
  }
}
