// CUDA graphs: work that is captured once and then launched as a whole, for networks whose kernels are shorter than the time that it
// takes to launch each of them. As torch.cuda.graph; https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs has the rules.
import { OpError } from "./errors.ts"
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

let isBeingCaptured = false

/** Whether a graph is being captured: nothing may wait for the GPU. */
export const isCapturing = (): boolean => isBeingCaptured

export class CudaGraph implements Replayable {
  readonly outputs: readonly Tensor[]
  readonly #handle: number

  /**
   * Captures what `work` launches, without doing it. It should have run a few times before, on inputs of the same shapes.
   * @param device "cuda:0"
   * @param work may wait for nothing that the GPU computes, and finds its inputs at the same place each time
   * @throws OpError when something in it cannot be captured; libtorch is not whole then, and should not use the GPU any more
   */
  constructor(device: string, work: () => readonly Tensor[]) {
    this.#handle = native.beginCapture(device)
    let outputs: readonly Tensor[] = []
    isBeingCaptured = true
    try {
      outputs = tidy(() => work().map((tensor) => tensor.keep()))
    } catch (error) {
      this.#abandon()
      throw error
    } finally {
      isBeingCaptured = false
    }
    this.outputs = outputs
    try {
      native.endCapture(this.#handle)
    } catch (cause) {
      this[Symbol.dispose]()
      throw new OpError((cause as Error).message, { cause })
    }
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
    native.releaseGraph(this.#handle)
  }
}
