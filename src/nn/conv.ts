// Convolutions. Weights, defaults and names are PyTorch's.
import {
  aten,
  atrousConv2d,
  autocast,
  type CountedBatchNorm,
  currentPrecision,
  depthwiseConv2d,
  foldBatchNorm,
  foldKey,
  isGradEnabled,
  isRecording,
  levers,
  Parameter,
  pointwiseConv2d,
  profileCall,
  ShapeError,
  type Tensor,
  tidy,
  winogradConv2d,
  winogradKernels,
  zeros,
} from "../torch/index.ts"
import * as init from "./init.ts"
import { Module } from "./module.ts"

/** One number for both axes, or [height, width]. */
export type Pair = number | readonly [number, number]
export const pair = (size: Pair): readonly [number, number] => (typeof size === "number" ? [size, size] : size)

/** What a convolution and the batch-norm behind it are together, kept until one of them changes. */
interface Folded {
  readonly key: number
  readonly weight: Tensor
  readonly bias: Tensor
  /** winogradKernels(weight), once they were needed. */
  kernels: Tensor | null
}

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
  #folded: Folded | null = null

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
    return this.#convolve(x, this.weight, this.bias)
  }

  /** Whether callFolded() is cheap from its second call on. */
  static get keepsFolded(): boolean {
    return levers.keepFolded && !isGradEnabled()
  }

  /** norm(call(x)) of a batch-norm with running statistics, as one convolution. */
  callFolded(x: Tensor, norm: CountedBatchNorm): Tensor {
    return profileCall(this, () =>
      tidy(() => {
        if (!Conv2d.keepsFolded) return this.#convolve(x, ...foldBatchNorm(this, norm))
        const key = foldKey(this, norm)
        if (this.#folded?.key !== key) {
          this.forget()
          const [weight, bias] = foldBatchNorm(this, norm)
          this.#folded = { key, weight: weight.keep(), bias: bias.keep(), kernels: null }
        }
        const { weight, bias } = this.#folded
        return this.#convolve(x, weight, bias, this.#folded)
      }),
    )
  }

  override forget(): void {
    if (this.#folded === null) return // as in each step of training
    const { weight, bias, kernels } = this.#folded
    for (const tensor of [weight, bias, kernels]) tensor?.dispose()
    this.#folded = null
  }

  /** @param kept where what is made of the weight can be kept */
  #convolve(x: Tensor, weight: Tensor, bias: Tensor | null, kept?: Folded): Tensor {
    const { stride, padding, dilation, groups } = this
    if (this.#isDilatedDepthwise && levers.depthwise && isGradEnabled() && !isRecording()) {
      const sides = padding === "same" ? this.#samePadding(x, weight) : twice(padding)
      return depthwiseConv2d(x, weight, { bias, stride: pair(stride), padding: sides, dilation: pair(dilation) })
    }
    const rate = this.#rate
    const isFull = currentPrecision() === "float32"
    if (levers.pointwise && isFull && this.#isPointwise && pointwisePays(x, weight) && !isRecording()) {
      return pointwiseConv2d(x, weight, bias)
    }
    if (rate !== null && isFull && !isRecording()) {
      if (levers.winograd && winogradPays(x, weight, rate)) {
        if (kept) kept.kernels ??= winogradKernels(weight).keep()
        return winogradConv2d(x, weight, bias, rate, kept?.kernels)
      }
      if (levers.atrous && rate > 1) return atrousConv2d(x, weight, bias, rate)
    }
    const [top, bottom, left, right] = padding === "same" ? this.#samePadding(x, weight) : twice(padding)
    const isEven = top === bottom && left === right
    const convolved = (x: Tensor) => {
      const padded = isEven ? x : aten.constant_pad_nd(x, [left, right, top, bottom])
      return aten.conv2d(padded, weight, { bias, stride, padding: isEven ? [top, left] : 0, dilation, groups })
    }
    if (currentPrecision() !== "bfloat16" || !hasBlindTaps(x, [bottom, right])) return convolved(x)
    return autocast({ dtype: "float32", device: x.device }, () => convolved(x.to({ dtype: "float32" })))
  }

  /** libtorch has no fast gradients for such a one (native/depthwise-convolution.cc). */
  get #isDilatedDepthwise(): boolean {
    const isDepthwise = this.groups > 1 && this.groups === this.weight.size(0) && this.weight.size(1) === 1
    return isDepthwise && Math.max(...pair(this.dilation)) > 1
  }

  get #isPointwise(): boolean {
    const { weight, stride, padding, groups } = this
    const isOne = (sizes: readonly number[]) => sizes.every((size) => size === 1)
    const hasPadding = padding !== "same" && Math.max(...pair(padding)) > 0
    return groups === 1 && isOne([weight.size(2), weight.size(3), ...pair(stride)]) && !hasPadding
  }

  /** The dilation of a 3x3 convolution that keeps the size; null: of others. */
  get #rate(): number | null {
    const [down, right] = pair(this.dilation)
    const { padding, stride, weight, groups } = this
    const keepsSize = padding === "same" || (pair(padding)[0] === down && pair(padding)[1] === right)
    const is3x3 = weight.size(2) === 3 && weight.size(3) === 3
    return down === right && keepsSize && is3x3 && Math.max(...pair(stride)) === 1 && groups === 1 ? down : null
  }

  #samePadding(x: Tensor, weight: Tensor): [top: number, bottom: number, left: number, right: number] {
    const [[down, right], [downDilation, rightDilation]] = [pair(this.stride), pair(this.dilation)]
    return [...samePadding(x, 2, weight, down, downDilation), ...samePadding(x, 3, weight, right, rightDilation)]
  }
}

/** [top, bottom, left, right] */
function twice(padding: Pair): [number, number, number, number] {
  const [down, right] = pair(padding)
  return [down, down, right, right]
}

/**
 * Whether a kernel may reach so far beyond a small map that some of its taps meet no pixel, as FCN's 7x7 on 2x2: in bfloat16
 * libtorch 1.13 gives those whatever was in memory as gradient. (Kernels of 3 it gets right.)
 */
function hasBlindTaps(x: Tensor, padding: Pair): boolean {
  const [down, right] = pair(padding)
  return Math.max(down, right) > 1 && (x.size(2) <= down || x.size(3) <= right)
}

/** Whether a 1x1 convolution is no slower as a matrix product (native/pointwise-convolution.cc has figures): the gradients of few channels are. */
const pointwisePays = (x: Tensor, weight: Tensor): boolean =>
  isSideBySide(x) && (!isGradEnabled() || Math.min(weight.size(0), weight.size(1)) >= 24)

/**
 * Whether a 3x3 convolution takes less time by tiles (native/winograd-convolution.cc has figures): of few channels their transforms
 * take longer than the products, of few tiles the kernels' does, and tiles that reach beyond the map are computed in vain.
 */
function winogradPays(x: Tensor, weight: Tensor, rate: number): boolean {
  const [n, inChannels, h, w] = x.shape as [number, number, number, number]
  const outChannels = weight.size(0)
  if (Math.min(inChannels, outChannels) < 32 || inChannels + outChannels < 96 || !isSideBySide(x)) return false
  const tilesAlong = (size: number) => rate * Math.ceil(Math.ceil(size / rate) / 2)
  const tiles = n * tilesAlong(h) * tilesAlong(w)
  const tapsInside = (size: number) => size + 2 * Math.max(0, size - rate)
  return tiles >= 64 && 16 * tiles <= 0.7 * n * tapsInside(h) * tapsInside(w) // multiplications
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
    const isFull = currentPrecision() === "float32" // else each product would be rounded before the bias is added
    if (levers.transposed && isFull && this.#tiles && isSideBySide(x) && !isRecording()) return tile(x, weight, bias)
    return aten.conv_transpose2d_input(x, weight, { bias, stride, padding, outputPadding })
  }

  /** Whether each output pixel comes from one input pixel: the windows lie side by side and leave nothing out. */
  get #tiles(): boolean {
    const [kernel, stride] = [this.weight.shape.slice(2), pair(this.stride)]
    const isZero = (size: Pair) => pair(size).every((side) => side === 0)
    return String(kernel) === String(stride) && isZero(this.padding) && isZero(this.outputPadding)
  }
}

/**
 * A transposed convolution whose kernel is as large as its stride: each pixel times the kernel is a tile of the output, so that all
 * is one matrix product and a change of order. Milliseconds of one Zen 4 core with channels side by side, forward and backward, kernel
 * 2, half as many channels out, libtorch and here (best of 9): 4x1024x8x8 59 and 36, 4x512x16x16 46 and 35, 4x256x32x32 56
 * and 37, 4x128x64x64 92 and 45. With rows of pixels side by side libtorch is as fast.
 * @param x [N, Cin, H, W]
 * @param weight [Cin, Cout, down, right]
 * @param bias [Cout]
 * @returns [N, Cout, down H, right W]
 */
function tile(x: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  const [n, inChannels, h, w] = x.shape as [number, number, number, number]
  const [, outChannels, down, right] = weight.shape as [number, number, number, number]
  const tiles = x // [N H W, down right Cout]
    .permute([0, 2, 3, 1])
    .reshape([n * h * w, inChannels])
    .matmul(weight.permute([0, 2, 3, 1]).reshape([inChannels, down * right * outChannels]))
  const y = tiles
    .view([n, h, w, down, right, outChannels])
    .permute([0, 1, 3, 2, 4, 5])
    .reshape([n, down * h, right * w, outChannels])
  return (bias ? y.add_(bias) : y).permute([0, 3, 1, 2])
}

/** Whether a pixel's channels are neighbours in memory. @param x [N, C, H, W] */
const isSideBySide = (x: Tensor): boolean => x.strides[1] === 1 && x.size(1) > 1
