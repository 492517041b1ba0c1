// Convolutions. Weights, defaults and names are PyTorch's.
import {
  aten,
  autocast,
  currentPrecision,
  depthwiseConv2d,
  isGradEnabled,
  isRecording,
  levers,
  Parameter,
  ShapeError,
  type Tensor,
  zeros,
} from "../torch/index.ts"
import * as init from "./init.ts"
import { Module } from "./module.ts"

/** One number for both axes, or [height, width]. */
export type Pair = number | readonly [number, number]
export const pair = (size: Pair): readonly [number, number] => (typeof size === "number" ? [size, size] : size)

/**
 * x [N, inChannels, H, W] -> [N, outChannels, H', W'], H' = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride + 1).
 * With padding "same" H' = ceil(H / stride), as in TensorFlow: of an odd number of padding pixels the bottom and the right
 * get one more. Weights that were trained with it want it back: symmetric padding shifts each stride-2 layer by a pixel.
 */
export class Conv2d extends Module {
  readonly weight: Parameter // [outChannels, inChannels / groups, kernel, kernel]
  readonly bias: Parameter | null // [outChannels]
  readonly stride: Pair
  readonly padding: Pair | "same"
  readonly dilation: Pair
  readonly groups: number

  constructor(
    inChannels: number,
    outChannels: number,
    kernel: Pair,
    { stride = 1 as Pair, padding = 0 as Pair | "same", dilation = 1 as Pair, groups = 1, bias = true } = {},
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
    return this.convolve(x, this.weight, this.bias)
  }

  /** The same with another weight and bias, of the same shapes. */
  convolve(x: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
    const { stride, padding, dilation, groups } = this
    if (this.#isDilatedDepthwise && levers.depthwise && isGradEnabled() && !isRecording()) {
      const sides = padding === "same" ? this.#samePadding(x, weight) : pair(padding).flatMap((side) => [side, side])
      return depthwiseConv2d(x, weight, { bias, stride: pair(stride), padding: sides, dilation: pair(dilation) })
    }
    if (padding !== "same") {
      const convolved = (x: Tensor) => aten.conv2d(x, weight, { bias, stride, padding, dilation, groups })
      if (currentPrecision() !== "bfloat16" || !hasBlindTaps(x, padding)) return convolved(x)
      return autocast({ dtype: "float32", device: x.device }, () => convolved(x.to({ dtype: "float32" })))
    }
    const [top, bottom, left, right] = this.#samePadding(x, weight)
    const isEven = top === bottom && left === right
    const padded = isEven ? x : aten.constant_pad_nd(x, [left, right, top, bottom])
    return aten.conv2d(padded, weight, { bias, stride, padding: isEven ? [top, left] : 0, dilation, groups })
  }

  /** libtorch has no fast gradients for such a one (native/depthwise-convolution.cc). */
  get #isDilatedDepthwise(): boolean {
    const isDepthwise = this.groups > 1 && this.groups === this.weight.size(0) && this.weight.size(1) === 1
    return isDepthwise && Math.max(...pair(this.dilation)) > 1
  }

  #samePadding(x: Tensor, weight: Tensor): [top: number, bottom: number, left: number, right: number] {
    const [[down, right], [downDilation, rightDilation]] = [pair(this.stride), pair(this.dilation)]
    return [...samePadding(x, 2, weight, down, downDilation), ...samePadding(x, 3, weight, right, rightDilation)]
  }
}

/**
 * Whether a kernel may reach so far beyond a small map that some of its taps meet no pixel, as FCN's 7x7 on 2x2: in bfloat16
 * libtorch 1.13 gives those whatever was in memory as gradient. (Kernels of 3 it gets right.)
 */
function hasBlindTaps(x: Tensor, padding: Pair): boolean {
  const [down, right] = pair(padding)
  return Math.max(down, right) > 1 && (x.size(2) <= down || x.size(3) <= right)
}

/** Pixels before and after one axis. https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2 */
function samePadding(x: Tensor, axis: 2 | 3, weight: Tensor, stride: number, dilation: number): [number, number] {
  const size = x.size(axis)
  const reach = dilation * (weight.size(axis) - 1) + 1
  const total = Math.max(0, (Math.ceil(size / stride) - 1) * stride + reach - size)
  return [Math.floor(total / 2), Math.ceil(total / 2)]
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
