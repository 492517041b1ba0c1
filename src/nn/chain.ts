// Modules one after another, of which some neighbours are cheaper together than each by itself.
import { aten, isGradEnabled, isRecording, levers, noGrad, type Tensor, tidy } from "../torch/index.ts"
import { Conv2d, pair } from "./conv.ts"
import type { Module } from "./module.ts"
import { BatchNorm2d } from "./norm.ts"
import { ReLU, ReLU6 } from "./simple.ts"

/**
 * modules[n]( ... modules[1](modules[0](x))). A recording sees each of them; else, where neither learns, a convolution and
 * the batch-norm behind it run as one convolution. So write chain(x, conv, norm), not norm.call(conv.call(x)).
 * @returns a fresh tensor
 */
export function chain(x: Tensor, ...modules: readonly Module[]): Tensor {
  let y = x
  for (let k = 0; k < modules.length; ) {
    const [first, second, third] = modules.slice(k, k + 3)
    if (is(first, Conv2d) && is(second, BatchNorm2d) && canFold(y, first, second)) {
      y = folded(y, first, second)
      const activation = inPlace(third)
      activation?.(y)
      k += activation ? 3 : 2
    } else {
      y = first!.call(y)
      k++
    }
  }
  return y === x ? x.alias() : y
}

/** Of exactly this class: one derived from it may compute something else. */
// biome-ignore lint/suspicious/noExplicitAny: layers are made of all kinds of arguments
function is<T extends Module>(module: Module | undefined, kind: new (...args: any) => T): module is T {
  return module?.constructor === kind
}

/** What an activation does, to the tensor itself: nobody else has it. */
function inPlace(module: Module | undefined): ((y: Tensor) => Tensor) | undefined {
  if (is(module, ReLU)) return aten.relu_
  if (is(module, ReLU6)) return (y) => aten.hardtanh_(y, { minVal: 0, maxVal: 6 })
  return undefined
}

// --- convolution and batch-norm as one ------------------------------------------------------------------------------------

function canFold(x: Tensor, conv: Conv2d, norm: BatchNorm2d): boolean {
  if (!levers.foldBatchNorm || isRecording() || norm.observer || !norm.isFixed) return false
  const parameters = [conv.weight, conv.bias, norm.weight, norm.bias]
  if (isGradEnabled() && parameters.some((parameter) => parameter?.requiresGrad)) return false
  // Folding writes a kernel, batch-norm a map: of few pixels and many channels the kernel is larger.
  const [n, , h, w] = x.shape as [number, number, number, number]
  const [down, right] = pair(conv.stride)
  const [, ...kernel] = conv.weight.shape // [inChannels / groups, height, width]
  return (n * h * w) / (down * right) >= kernel.reduce((product, size) => product * size)
}

/**
 * norm(conv(x)) with running statistics: a convolution whose kernels are scaled by s = gamma / sqrt(variance + eps), and
 * whose bias is beta + (bias - mean) s.
 */
function folded(x: Tensor, conv: Conv2d, norm: BatchNorm2d): Tensor {
  const { running_mean, running_var, eps, weight: gamma, bias: beta } = norm
  return tidy(() => {
    const [weight, bias] = tidy(() => {
      using _ = noGrad()
      const scale = gamma.div(running_var.add(eps).sqrt()) // [C]
      const mean = conv.bias ? running_mean.sub(conv.bias) : running_mean
      return [conv.weight.mul(scale.view([-1, 1, 1, 1])), aten.addcmul(beta, mean, scale, { value: -1 })]
    })
    return conv.convolve(x, weight, bias)
  })
}
