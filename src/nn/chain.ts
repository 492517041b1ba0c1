// Modules one after another, of which some neighbours are cheaper together than each by itself.
import { isGradEnabled, isRecording, type Limits, levers, type Tensor } from "../torch/index.ts"
import { Conv2d, pair } from "./conv.ts"
import type { Module } from "./module.ts"
import { BatchNorm2d, clamped } from "./norm.ts"
import { ReLU, ReLU6 } from "./simple.ts"

/**
 * modules[n]( ... modules[1](modules[0](x))). A recording sees each of them. Else a batch-norm and the ReLU or ReLU6 behind
 * it run as one operator, and a convolution and the batch-norm behind it as one convolution, where neither learns. So write
 * chain(x, conv, norm), not norm.call(conv.call(x)).
 * @returns a fresh tensor
 */
export function chain(x: Tensor, ...modules: readonly Module[]): Tensor {
  let y = x
  for (let k = 0; k < modules.length; ) {
    const [first, second, third] = modules.slice(k, k + 3)
    const limits = limitsOf(second)
    if (is(first, Conv2d) && is(second, BatchNorm2d) && canFold(y, first, second)) {
      y = first.callFolded(y, second)
      const clamps = limitsOf(third)
      if (clamps) y = clamped(y, clamps) // nobody else has it
      k += clamps ? 3 : 2
    } else if (is(first, BatchNorm2d) && limits && levers.fuseBatchNorm && !isRecording()) {
      y = first.callClamped(y, limits)
      k += 2
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

/** Of the activations that only limit their input. */
function limitsOf(module: Module | undefined): Limits | undefined {
  if (is(module, ReLU)) return { low: 0 }
  if (is(module, ReLU6)) return { low: 0, high: 6 }
  return undefined
}

// --- convolution and batch-norm as one ------------------------------------------------------------------------------------

function canFold(x: Tensor, conv: Conv2d, norm: BatchNorm2d): boolean {
  if (!levers.foldBatchNorm || isRecording() || norm.observer || !norm.isFixed) return false
  const parameters = [conv.weight, conv.bias, norm.weight, norm.bias]
  if (isGradEnabled() && parameters.some((parameter) => parameter?.requiresGrad)) return false
  if (Conv2d.keepsFolded) return true
  // Folding writes a kernel, batch-norm a map: of few pixels and many channels the kernel is larger.
  const [n, , h, w] = x.shape as [number, number, number, number]
  const [down, right] = pair(conv.stride)
  const [, ...kernel] = conv.weight.shape // [inChannels / groups, height, width]
  return (n * h * w) / (down * right) >= kernel.reduce((product, size) => product * size)
}
