// Adam and AdamW, as torch.optim: steps of about lr in each coordinate, whatever the gradient's scale.
// Kingma and Ba 2015, https://arxiv.org/abs/1412.6980; Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
import { adam_, aten, type Parameter, type Tensor, zeros } from "../torch/index.ts"
import { type NamedParameters, Optimizer, requireNumber, type StepSettings } from "./optimizer.ts"

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

  protected override update(name: string, parameter: Parameter, gradient: Tensor, settings: StepSettings): void {
    const { lr } = settings
    const g = this.penalize(parameter, gradient, settings)
    const [beta1, beta2] = this.betas
    const fresh = () => aten.zeros_like(parameter)
    const step = this.getState("step", name) ?? this.setState("step", name, zeros([], { dtype: "int64" }))
    const mean = this.getState("exp_avg", name) ?? this.setState("exp_avg", name, fresh())
    const square = this.getState("exp_avg_sq", name) ?? this.setState("exp_avg_sq", name, fresh())
    if (this.isFusible(parameter, mean, square)) {
      adam_(parameter, g, { step, mean, square }, { rate: lr, betas: this.betas, eps: this.eps })
      return
    }
    const t = step.add_(1).item()
    mean.mul_(beta1).add_(g, { alpha: 1 - beta1 })
    aten.addcmul_(square.mul_(beta2), g, g, { value: 1 - beta2 })
    const denominator = square
      .sqrt()
      .div_(Math.sqrt(1 - beta2 ** t))
      .add_(this.eps)
    aten.addcdiv_(parameter, mean, denominator, { value: -lr / (1 - beta1 ** t) })
  }
}

/** Adam with decoupled weight decay: w shrinks by lr weightDecay itself, so Adam's scaling does not touch the decay. */
export class AdamW extends Adam {
  override readonly isDecoupled = true

  constructor(parameters: NamedParameters, lr: number, { weightDecay = 0.01, ...options }: AdamOptions = {}) {
    super(parameters, lr, { weightDecay, ...options })
  }
}
