// Switching autograd off, and gradients without .grad.
import { native } from "./native.ts"
import { Tensor } from "./tensor.ts"

class GradModeGuard implements Disposable {
  readonly #before = native.gradEnabled()

  constructor(enabled: boolean) {
    native.setGradEnabled(enabled)
  }

  [Symbol.dispose](): void {
    native.setGradEnabled(this.#before)
  }
}

/** No history is recorded until the guard is disposed: `using _ = noGrad()`. */
export const noGrad = (): Disposable => new GradModeGuard(false)

/** History is recorded again, inside a noGrad(). */
export const enableGrad = (): Disposable => new GradModeGuard(true)

export const isGradEnabled = (): boolean => native.gradEnabled()

/**
 * d(sum(outputs * gradients)) / d(inputs), without touching any .grad; null for an input that no output depends on.
 * @param gradients one per output; may be left out where an output has one element
 */
export function grad(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  { gradients = outputs.map(() => null) as readonly (Tensor | null)[], retainGraph = false, createGraph = false } = {},
): (Tensor | null)[] {
  const handles = (tensors: readonly Tensor[]) => tensors.map((tensor) => tensor.handleFor("grad"))
  const seeds = gradients.map((gradient) => (gradient ? gradient.handleFor("grad") : null))
  return native
    .gradients(handles(outputs), handles(inputs), seeds, retainGraph || createGraph, createGraph)
    .map((handle) => (handle === null ? null : new Tensor(handle)))
}
