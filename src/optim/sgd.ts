// Stochastic gradient descent with momentum, Nesterov's too, as torch.optim.SGD.
// Sutskever et al. 2013, http://proceedings.mlr.press/v28/sutskever13.html
import { UserError } from "../errors.ts"
import { aten, type Parameter, sgd_, type Tensor } from "../torch/index.ts"
import { type NamedParameters, Optimizer, requireNumber, type StepSettings } from "./optimizer.ts"

export interface SGDOptions {
  momentum?: number
  /** How much of a new gradient the momentum leaves out, from the second step on. */
  dampening?: number
  nesterov?: boolean
  /** L2 penalty: `weightDecay` times the parameter is added to its gradient. */
  weightDecay?: number
}

/**
 * g = gradient + weightDecay w;  b = momentum b + (1 - dampening) g (the first b is g);
 * w = w - lr b, or with Nesterov w - lr (g + momentum b). The rate stands outside b, so changing it acts at once.
 */
export class SGD extends Optimizer {
  protected override readonly slots: readonly string[]
  readonly momentum: number
  readonly dampening: number
  readonly nesterov: boolean

  constructor(
    parameters: NamedParameters,
    lr: number,
    { momentum = 0, dampening = 0, nesterov = false, weightDecay = 0 }: SGDOptions = {},
  ) {
    super(parameters, lr, weightDecay)
    this.momentum = requireNumber("momentum", momentum, 0)
    this.dampening = dampening
    this.nesterov = nesterov
    this.slots = momentum === 0 ? [] : ["momentum_buffer"]
    if (nesterov && (momentum === 0 || dampening !== 0)) {
      throw new UserError(
        `SGD: nesterov wants a momentum above 0 and no dampening, got momentum ${momentum}, dampening ${dampening}.`,
      )
    }
  }

  protected override update(name: string, parameter: Parameter, gradient: Tensor, settings: StepSettings): void {
    const { momentum, dampening, nesterov } = this
    const before = momentum === 0 ? null : this.getState("momentum_buffer", name)
    if (this.isFusible(parameter, ...(before ? [before] : []))) {
      const isFirst = momentum !== 0 && !before
      const buffer = isFirst ? this.setState("momentum_buffer", name, aten.zeros_like(parameter)) : before
      sgd_(parameter, gradient, { buffer, isFirst }, { ...settings, momentum, dampening, nesterov })
      return
    }
    const g = this.penalize(parameter, gradient, settings)
    let direction = g
    if (momentum !== 0) {
      const buffer = before
        ? before.mul_(momentum).add_(g, { alpha: 1 - dampening })
        : this.setState("momentum_buffer", name, g.clone())
      direction = nesterov ? g.add(buffer, { alpha: momentum }) : buffer
    }
    parameter.add_(direction, { alpha: -settings.lr })
  }
}
