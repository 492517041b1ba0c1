// Operators of our own (native/*.cc), which the dispatcher knows like libtorch's.
import { dispatch, findOperator } from "./dispatch.ts"
import type { Tensor } from "./tensor.ts"

export interface BatchNormState {
  readonly weight: Tensor // [C]
  readonly bias: Tensor // [C]
  readonly running_mean: Tensor // [C]
  readonly running_var: Tensor // [C]
  readonly momentum: number
  readonly eps: number
}

/** With the count of the batches that moved the running statistics. */
export interface CountedBatchNorm extends Omit<BatchNormState, "momentum"> {
  readonly num_batches_tracked: Tensor // [] int64
}

/** Default: none. */
export interface Limits {
  readonly low?: number
  readonly high?: number
}

/**
 * aten.batch_norm() and the ReLU (low 0) or ReLU6 (high 6 too) behind it. In training, on the CPU with channels side by side
 * in float32, memory is read half as often as by the two; elsewhere it is the two.
 * @param x [N, C, H, W]
 * @param training whether it normalises by x's own statistics, and moves the running ones, in place
 */
export function batchNormClamp(
  x: Tensor,
  { weight, bias, running_mean, running_var, momentum, eps }: BatchNormState,
  training: boolean,
  { low = Number.NEGATIVE_INFINITY, high = Number.POSITIVE_INFINITY }: Limits = {},
): Tensor {
  const op = findOperator("pixelwise::batch_norm_clamp")
  const args = [x, weight, bias, running_mean, running_var, training, momentum, eps, low, high]
  return dispatch(op, args) as Tensor
}

/**
 * Weight and bias of the convolution that does what a convolution and the batch-norm behind it do with running statistics:
 * weight s and beta + (bias - mean) s, where s = gamma / sqrt(variance + eps). Without history.
 */
export function foldBatchNorm(
  { weight, bias }: { readonly weight: Tensor; readonly bias: Tensor | null }, // [Cout, Cin / groups, h, w], [Cout]
  norm: Omit<BatchNormState, "momentum">,
): [weight: Tensor, bias: Tensor] {
  const op = findOperator("pixelwise::fold_batch_norm")
  const args = [weight, bias, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps]
  return dispatch(op, args) as [Tensor, Tensor]
}

/** A whole number that is another one once foldBatchNorm() would give something else. */
export function foldKey(
  { weight, bias }: { readonly weight: Tensor; readonly bias: Tensor | null },
  norm: CountedBatchNorm,
): number {
  const op = findOperator("pixelwise::fold_key")
  const { running_mean, running_var, num_batches_tracked, eps } = norm
  const args = [weight, bias, norm.weight, norm.bias, running_mean, running_var, num_batches_tracked, eps]
  return dispatch(op, args) as number
}

/**
 * aten.conv2d() that filters each channel by itself, groups = C: a kernel of our own on the CPU, in float32, with channels
 * side by side; elsewhere libtorch's.
 * @param x [N, C, H, W]
 * @param weight [C, 1, h, w]
 */
export function depthwiseConv2d(
  x: Tensor,
  weight: Tensor,
  {
    bias = null,
    stride = [1, 1],
    padding = [0, 0, 0, 0],
    dilation = [1, 1],
  }: {
    /** [C] */
    bias?: Tensor | null
    stride?: readonly [down: number, right: number]
    /** Pixels at the top, the bottom, the left and the right. */
    padding?: readonly number[]
    dilation?: readonly [down: number, right: number]
  } = {},
): Tensor {
  return dispatch(findOperator("pixelwise::depthwise_conv2d"), [x, weight, bias, stride, padding, dilation]) as Tensor
}

/**
 * aten.conv2d() with a 1x1 kernel and stride 1, as a matrix product: on the CPU in float32 with channels side by side; elsewhere
 * libtorch's.
 * @param x [N, Cin, H, W]
 * @param weight [Cout, Cin, 1, 1]
 * @returns [N, Cout, H, W]
 */
export function pointwiseConv2d(x: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  return dispatch(findOperator("pixelwise::pointwise_conv2d"), [x, weight, bias]) as Tensor
}

/**
 * aten.conv2d() with a 3x3 kernel, stride 1 and as much padding as dilation: without the taps that see nothing but padding,
 * where that is faster, on the CPU in float32; elsewhere libtorch's.
 * @param x [N, Cin, H, W]
 * @param weight [Cout, Cin, 3, 3]
 * @param dilation pixels from one tap to the next
 * @returns [N, Cout, H, W]
 */
export function atrousConv2d(x: Tensor, weight: Tensor, bias: Tensor | null, dilation: number): Tensor {
  return dispatch(findOperator("pixelwise::atrous_conv2d"), [x, weight, bias, dilation]) as Tensor
}

/**
 * aten.conv2d() with a 3x3 kernel, stride 1 and as much padding as dilation, with fewer multiplications: on the CPU in float32
 * with channels side by side; elsewhere libtorch's.
 * @param x [N, Cin, H, W]
 * @param weight [Cout, Cin, 3, 3]
 * @param dilation pixels from one tap to the next
 * @param kernels winogradKernels(weight), which saves making them again where nothing is differentiated
 * @returns [N, Cout, H, W]
 */
export function winogradConv2d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  dilation: number,
  kernels: Tensor | null = null,
): Tensor {
  return dispatch(findOperator("pixelwise::winograd_conv2d"), [x, weight, bias, dilation, kernels]) as Tensor
}

/** What winogradConv2d() makes of its weight; 16/9 as large. Without history. */
export const winogradKernels = (weight: Tensor): Tensor =>
  dispatch(findOperator("pixelwise::winograd_kernels"), [weight]) as Tensor

/**
 * The cross-entropy of each pixel of logits that are enlarged bilinearly to the size of the labels, which on the CPU in
 * float32 never exist as a whole.
 * @param logits [N, K, h, w], before softmax
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex`
 * @param options.labelSmoothing share of the target that is spread evenly over all classes
 * @returns [N, H, W]; 0 where ignored
 */
export function upsampledCrossEntropy(
  logits: Tensor,
  target: Tensor,
  { ignoreIndex = 255, alignCorners = false, labelSmoothing = 0 } = {},
): Tensor {
  const op = findOperator("pixelwise::upsampled_cross_entropy")
  return dispatch(op, [logits, target, ignoreIndex, alignCorners, labelSmoothing]) as Tensor
}

/**
 * Sums over all pixels that are not ignored, of the softmax p of logits that are enlarged bilinearly to the size of the labels:
 * of p_k where the label is k, of p_k, and how many pixels have the label k. On the CPU in float32 the probabilities never exist as
 * a whole.
 * @param logits [N, K, h, w], before softmax
 * @param target [N, H, W] int64 in 0..K-1, or `ignoreIndex`
 * @returns [3, K]
 */
export function upsampledOverlap(
  logits: Tensor,
  target: Tensor,
  { ignoreIndex = 255, alignCorners = false } = {},
): Tensor {
  const op = findOperator("pixelwise::upsampled_overlap")
  return dispatch(op, [logits, target, ignoreIndex, alignCorners]) as Tensor
}

/**
 * The class with the largest logit at each pixel, of logits that are enlarged bilinearly, which on the CPU in float32 never
 * exist as a whole. Of equals the first; a NaN is larger than all numbers, as in argmax.
 * @param logits [N, K, h, w], K at most 256
 * @param size [height, width] in pixels
 * @returns [N, H, W] uint8, without history
 */
export function upsampledArgmax(
  logits: Tensor,
  [height, width]: readonly [number, number],
  { alignCorners = false } = {},
): Tensor {
  return dispatch(findOperator("pixelwise::upsampled_argmax"), [logits, height, width, alignCorners]) as Tensor
}

/**
 * One step of Adam for one parameter, in place, of float32 on the CPU: what optim/adam.ts writes out in ten operators.
 * @param parameter and gradient of one shape, as `mean` and `square` of the state, which lie in memory as the parameter does
 * @param state.step [] int64, the steps so far
 */
export function adam_(
  parameter: Tensor,
  gradient: Tensor,
  { step, mean, square }: { readonly step: Tensor; readonly mean: Tensor; readonly square: Tensor },
  { rate, betas: [beta1, beta2], eps }: { rate: number; betas: readonly [number, number]; eps: number },
): void {
  dispatch(findOperator("pixelwise::adam_"), [parameter, gradient, step, mean, square, rate, beta1, beta2, eps])
}

/**
 * One step of SGD for one parameter, in place, of float32 on the CPU: what optim/sgd.ts writes out in four operators.
 * @param parameter and gradient of one shape, as the momentum's buffer, which lies in memory as the parameter does; null: no momentum
 */
export function sgd_(
  parameter: Tensor,
  gradient: Tensor,
  { buffer, isFirst }: { readonly buffer: Tensor | null; readonly isFirst: boolean },
  settings: {
    readonly lr: number
    readonly momentum: number
    readonly dampening: number
    readonly nesterov: boolean
    readonly decay: number
    readonly factor: number
  },
): void {
  const { lr, momentum, dampening, nesterov, decay, factor } = settings
  const args = [parameter, gradient, buffer, isFirst, lr, momentum, dampening, nesterov, decay, factor]
  dispatch(findOperator("pixelwise::sgd_"), args)
}

/**
 * Of each pixel of a mask the squared distance to the nearest pixel of the other kind, exactly: inside the mask the way out,
 * outside the way in. 0 everywhere in a plane that is all inside or all outside, which has no other kind. Computed on the CPU.
 * @param mask [..., H, W] bool, each plane by itself; H and W at most 32767
 * @returns [..., H, W] int32 in pixels squared, on the mask's device
 */
export function squaredDistance(mask: Tensor): Tensor {
  return dispatch(findOperator("pixelwise::squared_distance"), [mask]) as Tensor
}
