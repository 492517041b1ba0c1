// Optimizer: moves the parameters of a model against their gradients. What it remembers between steps ("state") has
// names, so that a stopped run goes on bit for bit.
import { UserError } from "../errors.ts"
import { aten, levers, noGrad, type Parameter, StateBuffer, type Tensor, tidy } from "../torch/index.ts"

/** What `model.namedParameters()` gives. */
export type NamedParameters = Iterable<readonly [string, Parameter]>

/** How the steps of one parameter differ from those of others. */
export interface ParameterSettings {
  /** Factor of the learning rate, such as 0.2 for a pretrained encoder; decoupled weight decay shrinks with it. */
  readonly rate: number
  /**
   * Factor of the gradient, what L2 adds to it included. Under SGD the same as `rate`; Adam and Lion divide by the
   * gradient's own scale, so there it nearly cancels.
   */
  readonly gradient: number
  readonly weightDecay: number
}

/** What the step of one parameter is made with. */
export interface StepSettings {
  readonly lr: number
  /** L2 penalty: what of the parameter is added to its gradient. */
  readonly decay: number
  /** Factor of the gradient, after that. */
  readonly factor: number
}

export abstract class Optimizer implements Disposable {
  /** Learning rate of the next step. */
  lr: number
  readonly weightDecay: number

  /** Settings of a parameter, by its name. What is left out is 1, or for the weight decay the optimizer's. */
  groupOf: (name: string) => Partial<ParameterSettings> = () => ({})

  /** Whether weight decay shrinks the weights themselves by lr weightDecay, or (as L2) adds weightDecay w to the gradient. */
  readonly isDecoupled: boolean = false

  /** The kinds of state that a parameter has after its first step, by PyTorch's names ("momentum_buffer"). */
  protected abstract readonly slots: readonly string[]

  readonly #parameters: ReadonlyMap<string, Parameter>
  readonly #state = new Map<string, StateBuffer>() // by "slot.parameter"

  constructor(parameters: NamedParameters, lr: number, weightDecay: number) {
    this.#parameters = new Map(parameters)
    if (this.#parameters.size === 0) throw new UserError("The optimizer was given no parameters.")
    this.lr = requireNumber("lr", lr, 0)
    this.weightDecay = requireNumber("weightDecay", weightDecay, 0)
  }

  /** Changes one parameter in place. Runs without history, inside a tidy(). Decoupled weight decay has been. */
  protected abstract update(name: string, parameter: Parameter, gradient: Tensor, settings: StepSettings): void

  /** Whether an operator of our own can make the step, of a parameter and the state that it has. */
  protected isFusible(parameter: Parameter, ...state: readonly Tensor[]): boolean {
    // The order of the state in memory is no longer the parameter's where the model has changed its own.
    const isPlain = state.every(({ strides }) => String(strides) === String(parameter.strides))
    return levers.fuseOptimizer && isPlain && parameter.dtype === "float32" && parameter.device === "cpu"
  }

  /** The gradient with what the settings add to it. */
  protected penalize(parameter: Parameter, gradient: Tensor, { decay, factor }: StepSettings): Tensor {
    const penalized = decay === 0 ? gradient : gradient.add(parameter, { alpha: decay })
    return factor === 1 ? penalized : penalized.mul(factor)
  }

  /** One step. A parameter without gradient stays as it is, and so does its state. */
  step(): void {
    tidy(() => {
      using _ = noGrad()
      // One parameter at a time: on the CPU libtorch's _foreach operators do the same, slower (measured).
      for (const [name, parameter] of this.#parameters) {
        const gradient = parameter.grad
        if (!gradient) continue
        const { rate = 1, gradient: factor = 1, weightDecay = this.weightDecay } = this.groupOf(name)
        const lr = this.lr * rate
        if (this.isDecoupled && weightDecay !== 0) parameter.mul_(1 - lr * weightDecay)
        this.update(name, parameter, gradient, { lr, decay: this.isDecoupled ? 0 : weightDecay, factor })
      }
    })
  }

  /** Forgets the gradients, so that the next backward() starts new ones. */
  zeroGrad(): void {
    for (const parameter of this.#parameters.values()) parameter.grad = null
  }

  /** State of one parameter; null before its first step. */
  protected getState(slot: string, name: string): StateBuffer | null {
    return this.#state.get(`${slot}.${name}`) ?? null
  }

  protected setState(slot: string, name: string, value: Tensor): StateBuffer {
    const buffer = new StateBuffer(value)
    this.#state.set(`${slot}.${name}`, buffer)
    return buffer
  }

  // --- state ----------------------------------------------------------------------------------------------

  /** State by "slot.parameter" ("exp_avg.head.weight"). The tensors are the optimizer's own, not copies. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.#state)
  }

  /**
   * Takes over the values of a stateDict(); parameters that it does not mention start anew. Nothing is changed when
   * anything does not fit.
   * @throws UserError listing unexpected, incomplete and misshapen keys
   */
  loadStateDict(state: ReadonlyMap<string, Tensor>): this {
    const loaded: { slot: string; name: string; value: Tensor }[] = []
    const problems: string[] = []
    for (const [name, parameter] of this.#parameters) {
      const present = this.slots.filter((slot) => state.has(`${slot}.${name}`))
      if (present.length === 0) continue
      for (const slot of this.slots) {
        const key = `${slot}.${name}`
        const value = state.get(key)
        const expected = slot === "step" ? [] : parameter.shape
        if (!value) problems.push(`missing ${key}`)
        else if (String(value.shape) === String(expected)) loaded.push({ slot, name, value })
        else problems.push(`${key} is ${value.signature}, expected [${expected.join(", ")}]`)
      }
    }
    const known = new Set([...this.#parameters.keys()].flatMap((name) => this.slots.map((slot) => `${slot}.${name}`)))
    for (const key of state.keys()) if (!known.has(key)) problems.push(`unexpected ${key}`)
    if (problems.length > 0) {
      const more = problems.length > 10 ? ` ... ${problems.length} differences in all` : ""
      throw new UserError(
        `The optimizer state does not fit ${this.constructor.name}: ${problems.slice(0, 10).join("; ")}${more}. Was the run made with another optimizer or model?`,
      )
    }
    tidy(() => {
      using _ = noGrad()
      for (const buffer of this.#state.values()) buffer.dispose()
      this.#state.clear()
      for (const { slot, name, value } of loaded) {
        const parameter = this.#parameters.get(name) as Parameter
        // In the parameter's memory order, in which it was made.
        this.setState(slot, name, slot === "step" ? value.clone() : aten.empty_like(parameter).copy_(value))
      }
    })
    return this
  }

  /** Frees the state. Parameters belong to the model and stay. */
  dispose(): void {
    for (const buffer of this.#state.values()) buffer.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** @throws UserError unless low <= value (< high) */
export function requireNumber(name: string, value: number, low: number, high = Number.POSITIVE_INFINITY): number {
  if (value >= low && value < high) return value
  const range = high === Number.POSITIVE_INFINITY ? `a number of at least ${low}` : `${low} <= ${name} < ${high}`
  throw new UserError(`Optimizer: ${name} is ${value}; expected ${range}.`)
}
