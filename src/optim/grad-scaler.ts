// Gradient scaling for float16, whose smallest normal number is 6e-5: many gradients are less, and would be 0. So the loss is
// multiplied by as much as the largest gradients bear, and the gradients divided by it before they are used.
// Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740; the rule and its numbers are those of torch.cuda.amp.GradScaler.
import { noGrad, type Parameter, type Tensor, tidy } from "../torch/index.ts"
import { requireNumber } from "./optimizer.ts"

export interface GradScalerOptions {
  /** The scale before the first step. */
  scale?: number
  /** Factor after `growthInterval` good steps in a row. */
  growth?: number
  /** Factor after an overflow. */
  backoff?: number
  growthInterval?: number
}

/** Where a scaler stands; plain data, for checkpoints. */
export interface GradScalerState {
  readonly scale: number
  /** Good steps since the scale changed last. */
  readonly goodSteps: number
}

/**
 * ```ts
 * scaler.scaled(loss).backward()
 * scaler.unscale(parameters)
 * const isGood = Number.isFinite(gradientNorm(parameters))
 * if (isGood) optimizer.step()
 * scaler.update(isGood)
 * ```
 */
export class GradScaler {
  readonly #growth: number
  readonly #backoff: number
  readonly #growthInterval: number
  #scale: number
  #goodSteps = 0

  constructor({ scale = 65536, growth = 2, backoff = 0.5, growthInterval = 2000 }: GradScalerOptions = {}) {
    this.#scale = requireNumber("scale", scale, Number.MIN_VALUE)
    this.#growth = requireNumber("growth", growth, 1)
    this.#backoff = requireNumber("backoff", backoff, Number.MIN_VALUE, 1)
    this.#growthInterval = requireNumber("growthInterval", growthInterval, 1)
  }

  get scale(): number {
    return this.#scale
  }

  /** loss * scale */
  scaled(loss: Tensor): Tensor {
    return loss.mul(this.#scale)
  }

  /** Divides the gradients by the scale, in place. */
  unscale(parameters: Iterable<Parameter>): void {
    tidy(() => {
      using _ = noGrad()
      for (const { grad } of parameters) grad?.mul_(1 / this.#scale)
    })
  }

  /** After each step that was made, or left out because a gradient was not finite. */
  update(isGood: boolean): void {
    if (!isGood) {
      this.#scale *= this.#backoff
      this.#goodSteps = 0
    } else if (++this.#goodSteps === this.#growthInterval) {
      this.#scale *= this.#growth
      this.#goodSteps = 0
    }
  }

  get state(): GradScalerState {
    return { scale: this.#scale, goodSteps: this.#goodSteps }
  }

  set state({ scale, goodSteps }: GradScalerState) {
    this.#scale = scale
    this.#goodSteps = goodSteps
  }
}
