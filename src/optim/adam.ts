// Adam and AdamW, as torch.optim: steps of about lr in each coordinate, whatever the gradient's scale.
// Kingma and Ba 2015, https://arxiv.org/abs/1412.6980; Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
import { adam_, aten, type Parameter, type StateBuffer, zeros } from "../torch/index.ts"
import { type Members, type NamedParameters, Optimizer, requireNumber, type StepSettings } from "./optimizer.ts"

export interface AdamOptions {
  /** How much of the old mean and of the old mean square of the gradient a step keeps. */
  betas?: readonly [number, number]
  eps?: number
  weightDecay?: number
}

/**
 * m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = w - lr m' / (sqrt(v') + eps), where m' = m / (1 - b1^t),
 * v' = v / (1 - b2^t) and t counts the parameter's steps. Weight decay is added to the gradient: g + weightDecay w.
 */
export class Adam extends Optimizer {
  protected override readonly slots = ["step", "exp_avg", "exp_avg_sq"]
  readonly betas: readonly [number, number]
  readonly eps: number

  constructor(
    parameters: NamedParameters,
    lr: number,
    { betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0 }: AdamOptions = {},
  ) {
    super(parameters, lr, weightDecay)
    for (const beta of betas) requireNumber("beta", beta, 0, 1)
    this.betas = betas
    this.eps = requireNumber("eps", eps, 0)
  }

  protected override stageOf(name: string): string {
    return String(this.getState("step", name)?.item() ?? 0)
  }

  protected override updateFused(members: Members, settings: StepSettings): boolean {
    const [name, parameter] = [members.names[0]!, members.parameters[0]!]
    const { step, mean, square } = this.#stateOf(name, parameter)
    if (!this.isFusible(parameter, mean, square)) return false
    const [gradient] = this.penalize(members, settings)
    adam_(parameter, gradient!, { step, mean, square }, { rate: settings.lr, betas: this.betas, eps: this.eps })
    return true
  }

  protected override update(members: Members, settings: StepSettings): void {
    const { names, parameters } = members
    const g = this.penalize(members, settings)
    const [beta1, beta2] = this.betas
    const states = names.map((name, k) => this.#stateOf(name, parameters[k]!))
    const means = states.map(({ mean }) => mean)
    const squares = states.map(({ square }) => square)
    const t = 1 + states[0]!.step.item()
    for (const { step } of states) step.fill_(t)

    aten._foreach_mul__Scalar(means, beta1)
    aten._foreach_add__List(means, g, { alpha: 1 - beta1 })
    aten._foreach_mul__Scalar(squares, beta2)
    aten._foreach_addcmul__Scalar(squares, g, g, { value: 1 - beta2 })
    const denominators = aten._foreach_sqrt(squares)
    aten._foreach_div__Scalar(denominators, Math.sqrt(1 - beta2 ** t))
    aten._foreach_add__Scalar(denominators, this.eps)
    aten._foreach_addcdiv__Scalar(parameters, means, denominators, { value: -settings.lr / (1 - beta1 ** t) })
  }

  #stateOf(name: string, parameter: Parameter): { step: StateBuffer; mean: StateBuffer; square: StateBuffer } {
    return {
      step: this.getState("step", name) ?? this.setState("step", name, zeros([], { dtype: "int64" })),
      mean: this.getOrZeros("exp_avg", name, parameter),
      square: this.getOrZeros("exp_avg_sq", name, parameter),
    }
  }
}

/** Adam with decoupled weight decay: w shrinks by lr weightDecay itself, so Adam's scaling does not touch the decay. */
export class AdamW extends Adam {
  override readonly isDecoupled = true

  constructor(parameters: NamedParameters, lr: number, { weightDecay = 0.01, ...options }: AdamOptions = {}) {
    super(parameters, lr, { weightDecay, ...options })
  }
}
