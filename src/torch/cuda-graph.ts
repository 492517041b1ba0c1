// CUDA graphs: work that is captured once and then launched as a whole, for networks whose kernels are shorter than the time that it
// takes to launch each of them. As torch.cuda.graph; https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs has the rules.
import { native } from "./native.ts"
import type { Tensor } from "./tensor.ts"
import { tidy } from "./tidy.ts"

/** Captured work. */
export interface Replayable extends Disposable {
  /** What it makes: each replay writes the same memory. */
  readonly outputs: readonly Tensor[]
  /** Does it, on what is in its inputs now. */
  replay(): void
}

export class CudaGraph implements Replayable {
  readonly outputs: readonly Tensor[]
  readonly #handle: number

  /**
   * Captures what `work` launches, without doing it. It should have run a few times before, on inputs of the same shapes.
   * @param device "cuda:0"
   * @param work may wait for nothing that the GPU computes, and finds its inputs at the same place each time
   * @throws Error when something in it cannot be captured
   */
  constructor(device: string, work: () => readonly Tensor[]) {
    this.#handle = native.beginCapture(device)
    let outputs: readonly Tensor[] | undefined
    try {
      outputs = tidy(() => work().map((tensor) => tensor.keep()))
      native.endCapture(this.#handle)
    } catch (error) {
      if (!outputs) this.#abandon()
      for (const tensor of outputs ?? []) tensor.dispose()
      native.releaseGraph(this.#handle)
      throw error
    }
    this.outputs = outputs
  }

  replay(): void {
    native.replayGraph(this.#handle)
  }

  [Symbol.dispose](): void {
    for (const tensor of this.outputs) tensor.dispose()
    native.releaseGraph(this.#handle)
  }

  #abandon(): void {
    try {
      native.endCapture(this.#handle) // else the stream goes on capturing
    } catch {} // that the work was cut off
  }
}
