// Averaged weights: evaluation and the saved model use an average of the last steps' weights, which training itself never
// sees. Single steps jump about a good place; their average lies in it. Polyak and Juditsky 1992,
// https://doi.org/10.1137/0330046; for networks Tarvainen and Valpola 2017, https://arxiv.org/abs/1703.01780
import { aten, isFloating, noGrad, StateBuffer, type Tensor, tidy } from "../torch/index.ts"
import { requireNumber } from "./optimizer.ts"

/**
 * average = d average + (1 - d) value after each step, d = min(decay, (1 + t) / (10 + t)) with t the steps so far, as in
 * TensorFlow's ExponentialMovingAverage: so early on it reaches over the last ninth of the steps, whatever their number.
 */
export class AveragedState implements Disposable {
  readonly #state: ReadonlyMap<string, Tensor>
  readonly #averages: ReadonlyMap<string, StateBuffer>
  readonly #decay: number

  /** @param state a model's stateDict(); whole numbers in it are copied, not averaged */
  constructor(state: ReadonlyMap<string, Tensor>, decay: number) {
    this.#state = state
    this.#decay = requireNumber("average", decay, 0, 1)
    this.#averages = tidy(() => new Map([...state].map(([name, tensor]) => [name, new StateBuffer(tensor.clone())])))
  }

  /** After optimizer step `step`, the first being 1. */
  update(step: number): void {
    const decay = Math.min(this.#decay, (1 + step) / (10 + step))
    tidy(() => {
      using _ = noGrad()
      for (const [name, average] of this.#averages) {
        const value = this.#state.get(name) as Tensor
        if (isFloating(average.dtype)) aten.lerp__Scalar(average, value, 1 - decay)
        else average.copy_(value)
      }
    })
  }

  /** Exchanges the model's state and the averages: once to use them, and once more to train on. */
  swap(): void {
    tidy(() => {
      using _ = noGrad()
      for (const [name, average] of this.#averages) {
        const tensor = this.#state.get(name) as Tensor
        const value = tensor.clone()
        tensor.copy_(average)
        average.copy_(value)
      }
    })
  }

  /** The averages under the model's names. The tensors are its own, not copies. */
  stateDict(): ReadonlyMap<string, Tensor> {
    return this.#averages
  }

  /** Takes over the values of a stateDict() of the same model. */
  loadStateDict(state: ReadonlyMap<string, Tensor>): void {
    tidy(() => {
      using _ = noGrad()
      for (const [name, average] of this.#averages) {
        const value = state.get(name)
        if (value) average.copy_(value)
      }
    })
  }

  [Symbol.dispose](): void {
    for (const average of this.#averages.values()) average.dispose()
  }
}
