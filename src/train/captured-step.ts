// A training step's forward, loss and backward, captured once and then launched as a whole (torch/cuda-graph.ts). Batches come by way
// of tensors that stay, and gradients are each time in the same memory. The optimizer's part is not in it: its learning rate changes.
import { UserError } from "../errors.ts"
import { parseLoss } from "../losses/objective.ts"
import { OpError, type Parameter, type Replayable, span, type Tensor } from "../torch/index.ts"
import type { NameKey, TrainConfig } from "./config.ts"

/** Captures what `work` does. */
export type Capture = (work: () => readonly Tensor[]) => Replayable

// Before it is captured: cuDNN tries its algorithms, and libraries take their memory.
const ORDINARY_STEPS = 3
// These ask the GPU for numbers, or compute on the CPU.
const waitingLosses = ["lovasz-softmax", "hausdorff", "boundary"]

/** @throws UserError for options whose steps differ from each other or wait for the GPU, or where there is none */
export function refuseUncapturable(config: TrainConfig, name: NameKey): void {
  if (!config.cudaGraph) return
  const refuse = (text: string) => {
    throw new UserError(`${name("cudaGraph")} ${text}`)
  }
  const { device, precision, accumulate, miningSteps, ohemThreshold, upsampleLogits, groundTruth, loss } = config
  if (device === "cpu")
    refuse(`is for CUDA, and ${name("device")} is cpu: give a device such as cuda, or make it false.`)
  if (precision === "float16") refuse("cannot be had with float16, whose loss has a scale that changes: take bfloat16.")
  if (accumulate > 1) refuse(`cannot be had with ${name("accumulate")}: a graph writes its gradients anew.`)
  if (miningSteps !== null) refuse(`cannot be had with ${name("miningSteps")}, which counts other pixels in each step.`)
  const waits = "which waits for the GPU in each step."
  if (ohemThreshold !== null) refuse(`cannot be had with ${name("ohemThreshold")}, ${waits} Take ${name("topK")}.`)
  if (!upsampleLogits) refuse(`cannot be had with ${name("upsampleLogits")} false, ${waits}`)
  if (groundTruth === "alpha") refuse(`cannot be had with ${name("groundTruth")} alpha, ${waits}`)
  const waiting = loss && parseLoss(loss).find((term) => waitingLosses.includes(term.name))
  if (waiting) refuse(`cannot be had with the loss ${waiting.name}, ${waits}`)
}

interface Captured {
  readonly signature: string
  readonly step: Replayable
  readonly inputs: readonly Tensor[]
  readonly learning: readonly Parameter[]
}

export class CapturedStep implements Disposable {
  readonly #capture: Capture
  readonly #parameters: readonly Parameter[]
  readonly #ordinary = new Map<string, number>() // steps so far, by their inputs' shapes
  #captured: Captured | null = null

  /** @param parameters those of the model; when run() is called they have no gradients */
  constructor(capture: Capture, parameters: readonly Parameter[]) {
    this.#capture = capture
    this.#parameters = parameters
  }

  /**
   * @param inputs of a batch; those of other shapes than the captured ones take the ordinary way
   * @param work makes a loss, [], and its gradients, always by the same operators
   * @returns the loss
   * @throws UserError when the work cannot be captured
   */
  run(inputs: readonly Tensor[], work: (inputs: readonly Tensor[]) => Tensor): number {
    const signature = inputs.map((tensor) => tensor.signature).join()
    const before = this.#ordinary.get(signature) ?? 0
    if (this.#captured === null && before === ORDINARY_STEPS) this.#captured = this.#begin(signature, inputs, work)
    const captured = this.#captured
    if (captured?.signature !== signature) {
      this.#ordinary.set(signature, before + 1)
      return work(inputs).item()
    }
    for (const [k, tensor] of captured.inputs.entries()) tensor.copy_(inputs[k]!)
    const [loss, ...gradients] = captured.step.outputs
    const value = span("replay", () => {
      captured.step.replay()
      return loss!.item()
    })
    for (const [k, parameter] of captured.learning.entries()) parameter.grad = gradients[k]!
    return value
  }

  #begin(signature: string, given: readonly Tensor[], work: (inputs: readonly Tensor[]) => Tensor): Captured {
    const inputs: Tensor[] = []
    let learning: readonly Parameter[] = []
    try {
      for (const tensor of given) inputs.push(tensor.clone().keep())
      const step = this.#capture(() => {
        const loss = work(inputs)
        learning = this.#parameters.filter(({ grad }) => grad !== null)
        return [loss.detach(), ...learning.map(({ grad }) => grad!)]
      })
      return { signature, step, inputs, learning }
    } catch (cause) {
      for (const tensor of inputs) tensor.dispose()
      for (const parameter of this.#parameters) parameter.grad = null // they are in the graph's memory
      if (!(cause instanceof OpError)) throw cause
      const reason = cause.message.split("\n")[0]!.replace(/\.?$/, ".")
      throw new UserError(`cudaGraph: this training's step cannot be captured: ${reason} Train without.`, { cause })
    }
  }

  [Symbol.dispose](): void {
    this.#captured?.step[Symbol.dispose]()
    for (const tensor of this.#captured?.inputs ?? []) tensor.dispose()
    this.#captured = null
  }
}
