// Stochastic gradient descent with momentum, Nesterov's too, as torch.optim.SGD.
// Sutskever et al. 2013, http://proceedings.mlr.press/v28/sutskever13.html
import { UserError } from "../errors.ts"
import { aten, sgd_, type Tensor } from "../torch/index.ts"
import { type Members, type NamedParameters, Optimizer, requireNumber, type StepSettings } from "./optimizer.ts"

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

  protected override stageOf(name: string): string {
    return this.getState("momentum_buffer", name) ? "later" : "first"
  }

  protected override updateFused(members: Members, settings: StepSettings): boolean {
    const { momentum, dampening, nesterov } = this
    const [name, parameter, gradient] = [members.names[0]!, members.parameters[0]!, members.gradients[0]!]
    const before = momentum === 0 ? null : this.getState("momentum_buffer", name)
    if (!this.isFusible(parameter, ...(before ? [before] : []))) return false
    const isFirst = momentum !== 0 && !before
    const buffer = isFirst ? this.getOrZeros("momentum_buffer", name, parameter) : before
    sgd_(parameter, gradient, { buffer, isFirst }, { ...settings, momentum, dampening, nesterov })
    return true
  }

  protected override update(members: Members, settings: StepSettings): void {
    const g = this.penalize(members, settings)
    const directions = this.momentum === 0 ? g : this.#withMomentum(members.names, g)
    aten._foreach_add__List(members.parameters, directions, { alpha: -settings.lr })
  }

  #withMomentum(names: readonly string[], gradients: readonly Tensor[]): readonly Tensor[] {
    const { momentum, dampening, nesterov } = this
    const before = names.map((name) => this.getState("momentum_buffer", name)).filter((buffer) => buffer !== null)
    let buffers: readonly Tensor[] = before
    if (before.length > 0) {
      aten._foreach_mul__Scalar(before, momentum)
      aten._foreach_add__List(before, gradients, { alpha: 1 - dampening })
    } else buffers = names.map((name, k) => this.setState("momentum_buffer", name, gradients[k]!.clone()))
    return nesterov ? aten._foreach_add_List(gradients, buffers, { alpha: momentum }) : buffers
  }
}
