// A training step's forward, loss and backward, captured once and then launched as a whole (torch/cuda-graph.ts). Batches come by way
// of tensors that stay, and gradients are each time in the same memory. The optimizer's part is not in it: its learning rate changes.
import { UserError } from "../errors.ts"
import type { Parameter, Replayable, Tensor } from "../torch/index.ts"
import type { NameKey, TrainConfig } from "./config.ts"

/** Captures what `work` does. */
export type Capture = (work: () => readonly Tensor[]) => Replayable

// Before it is captured: cuDNN tries its algorithms, and libraries take their memory.
const ORDINARY_STEPS = 3

/** @throws UserError for options whose steps differ from each other, or that have no GPU */
export function refuseUncapturable(
  { cudaGraph, device, precision, accumulate, miningSteps }: TrainConfig,
  name: NameKey,
): void {
  if (!cudaGraph) return
  const refuse = (text: string) => {
    throw new UserError(`${name("cudaGraph")} ${text}`)
  }
  if (device === "cpu") refuse(`is for CUDA, and ${name("device")} is cpu.`)
  if (precision === "float16") refuse(`cannot be had with float16, whose loss has a scale that changes: take bfloat16.`)
  if (accumulate > 1) refuse(`cannot be had with ${name("accumulate")}: a graph writes its gradients anew.`)
  if (miningSteps !== null) refuse(`cannot be had with ${name("miningSteps")}, which counts other pixels in each step.`)
}

interface Captured {
  readonly step: Replayable
  readonly inputs: readonly Tensor[]
  readonly learning: readonly Parameter[]
}

export class CapturedStep implements Disposable {
  readonly #capture: Capture
  readonly #parameters: readonly Parameter[]
  #ordinary = 0
  #captured: Captured | null = null

  /** @param parameters those of the model; when run() is called they have no gradients */
  constructor(capture: Capture, parameters: readonly Parameter[]) {
    this.#capture = capture
    this.#parameters = parameters
  }

  /**
   * @param inputs of a batch; those of other shapes than the first ones' take the ordinary way
   * @param work makes a loss, [], and its gradients, always by the same operators
   * @returns the loss
   * @throws UserError when the work cannot be captured
   */
  run(inputs: readonly Tensor[], work: (inputs: readonly Tensor[]) => Tensor): Tensor {
    if (this.#ordinary < ORDINARY_STEPS) {
      this.#ordinary++
      return work(inputs)
    }
    this.#captured ??= this.#begin(inputs, work)
    const captured = this.#captured
    if (!captured.inputs.every((tensor, k) => tensor.signature === inputs[k]?.signature)) return work(inputs)
    for (const [k, tensor] of captured.inputs.entries()) tensor.copy_(inputs[k]!)
    captured.step.replay()
    const [loss, ...gradients] = captured.step.outputs
    for (const [k, parameter] of captured.learning.entries()) parameter.grad = gradients[k]!
    return loss!
  }

  #begin(given: readonly Tensor[], work: (inputs: readonly Tensor[]) => Tensor): Captured {
    const inputs = given.map((tensor) => tensor.clone().keep())
    let learning: readonly Parameter[] = []
    try {
      const step = this.#capture(() => {
        const loss = work(inputs)
        learning = this.#parameters.filter(({ grad }) => grad !== null)
        return [loss.detach(), ...learning.map(({ grad }) => grad!)]
      })
      return { step, inputs, learning }
    } catch (cause) {
      for (const tensor of inputs) tensor.dispose()
      throw new UserError(
        `--cuda-graph: this training's step cannot be captured: ${(cause as Error).message} Train without it.`,
        { cause },
      )
    }
  }

  [Symbol.dispose](): void {
    this.#captured?.step[Symbol.dispose]()
    for (const tensor of this.#captured?.inputs ?? []) tensor.dispose()
    this.#captured = null
  }
}
