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

/** What a step is made with. */
export interface StepSettings {
  readonly lr: number
  /** L2 penalty: what of the parameter is added to its gradient. */
  readonly decay: number
  /** Factor of the gradient, after that. */
  readonly factor: number
}

/** Parameters whose steps are alike: three lists in one order. */
export interface Members {
  readonly names: readonly string[]
  readonly parameters: readonly Parameter[]
  readonly gradients: readonly Tensor[]
}

interface Step {
  readonly settings: StepSettings
  /** What decoupled weight decay leaves of the parameters. */
  readonly shrink: number
  readonly names: string[]
  readonly parameters: Parameter[]
  readonly gradients: Tensor[]
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

  /**
   * Changes parameters in place, all by the same few operators. Runs without history, inside a tidy(). Decoupled weight decay has
   * been.
   */
  protected abstract update(members: Members, settings: StepSettings): void

  /**
   * The same, where there is one parameter and an operator of our own that makes its step.
   * @returns whether it has been made
   */
  protected updateFused(_members: Members, _settings: StepSettings): boolean {
    return false
  }

  /**
   * Whether a parameter's step is made together with those that are alike: on CUDA, where each operator has to be launched. On the
   * CPU each is made by itself, while it is in a cache.
   */
  protected takesTogether({ device }: Parameter): boolean {
    return device !== "cpu"
  }

  /** What a parameter's state says that its step depends on: those with another are no `Members` of the same step. */
  protected stageOf(_name: string): string {
    return ""
  }

  /** Whether an operator of our own can make the step, of a parameter and the state that it has. */
  protected isFusible(parameter: Parameter, ...state: readonly Tensor[]): boolean {
    // The order of the state in memory is no longer the parameter's where the model has changed its own.
    const isPlain = state.every(({ strides }) => String(strides) === String(parameter.strides))
    return levers.fuseOptimizer && isPlain && parameter.dtype === "float32" && parameter.device === "cpu"
  }

  /** The gradients with what the settings add to them. */
  protected penalize({ parameters, gradients }: Members, { decay, factor }: StepSettings): readonly Tensor[] {
    const penalized = decay === 0 ? gradients : aten._foreach_add_List(gradients, parameters, { alpha: decay })
    return factor === 1 ? penalized : aten._foreach_mul_Scalar(penalized, factor)
  }

  /** One step. A parameter without gradient stays as it is, and so does its state. */
  step(): void {
    tidy(() => {
      using _ = noGrad()
      const steps = new Map<string, Step>()
      for (const [name, parameter] of this.#parameters) {
        const gradient = parameter.grad
        if (!gradient) continue
        const { rate = 1, gradient: factor = 1, weightDecay = this.weightDecay } = this.groupOf(name)
        const lr = this.lr * rate
        const settings = { lr, decay: this.isDecoupled ? 0 : weightDecay, factor }
        const shrink = this.isDecoupled ? 1 - lr * weightDecay : 1
        const { device, dtype } = parameter
        const alike = this.takesTogether(parameter)
          ? [device, dtype, ...Object.values(settings), shrink, this.stageOf(name)].join()
          : name
        const step = steps.get(alike) ?? { settings, shrink, names: [], parameters: [], gradients: [] }
        steps.set(alike, step)
        step.names.push(name)
        step.parameters.push(parameter)
        step.gradients.push(gradient)
      }
      for (const { settings, shrink, ...members } of steps.values()) {
        if (shrink !== 1) aten._foreach_mul__Scalar(members.parameters, shrink)
        if (members.names.length > 1 || !this.updateFused(members, settings)) this.update(members, settings)
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

  /** The same, made of zeros before the first step, in the parameter's shape and memory order. */
  protected getOrZeros(slot: string, name: string, parameter: Parameter): StateBuffer {
    return this.getState(slot, name) ?? this.setState(slot, name, aten.zeros_like(parameter))
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
