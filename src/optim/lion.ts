// Lion: every coordinate moves by exactly lr, in the direction of a sign; one state tensor where Adam has two. It wants a
// third to a tenth of Adam's learning rate, and as many times its weight decay.
// Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, https://arxiv.org/abs/2302.06675
import { aten } from "../torch/index.ts"
import { type Members, type NamedParameters, Optimizer, requireNumber, type StepSettings } from "./optimizer.ts"

export interface LionOptions {
  /** How much of the old mean of the gradient the direction of a step, and the next mean, keep. */
  betas?: readonly [number, number]
  weightDecay?: number
}

/** w = w (1 - lr weightDecay) - lr sign(b1 m + (1 - b1) g);  then m = b2 m + (1 - b2) g. The first m is 0. */
export class Lion extends Optimizer {
  protected override readonly slots = ["exp_avg"]
  override readonly isDecoupled = true
  readonly betas: readonly [number, number]

  constructor(parameters: NamedParameters, lr: number, { betas = [0.9, 0.99], weightDecay = 0 }: LionOptions = {}) {
    super(parameters, lr, weightDecay)
    for (const beta of betas) requireNumber("beta", beta, 0, 1)
    this.betas = betas
  }

  protected override update(members: Members, settings: StepSettings): void {
    const { names, parameters } = members
    const gradients = this.penalize(members, settings)
    const [beta1, beta2] = this.betas
    const means = names.map((name, k) => this.getOrZeros("exp_avg", name, parameters[k]!))
    const mixed = aten._foreach_mul_Scalar(means, beta1)
    aten._foreach_add__List(mixed, gradients, { alpha: 1 - beta1 })
    aten._foreach_add__List(
      parameters,
      mixed.map((direction) => aten.sign(direction)),
      { alpha: -settings.lr },
    )
    aten._foreach_mul__Scalar(means, beta2)
    aten._foreach_add__List(means, gradients, { alpha: 1 - beta2 })
  }
}
