// Normalisation layers. Fields that become checkpoint keys keep PyTorch's spelling.
import {
  alone,
  aten,
  batchNormClamp,
  type Group,
  isRecording,
  type Limits,
  levers,
  ones,
  Parameter,
  profileCall,
  ShapeError,
  StateBuffer,
  type Tensor,
  tidy,
  zeros,
} from "../torch/index.ts"
import { clampBetween } from "./functional.ts"
import { type AnyModule, Module } from "./module.ts"

/**
 * Batch normalisation over N, H and W, per channel. Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167
 * While training it uses the batch's statistics and moves the running ones by `momentum` towards them.
 * A single value per channel has no variance: then it uses the running statistics, as in eval(), where PyTorch throws. So
 * the image pooling of ASPP and the 1x1 bin of PSPNet train with a batch of one.
 */
export class BatchNorm2d extends Module {
  readonly weight: Parameter // [C]
  readonly bias: Parameter // [C]
  readonly running_mean: StateBuffer // [C]
  readonly running_var: StateBuffer // [C], unbiased
  readonly num_batches_tracked: StateBuffer // [] int64
  readonly eps: number
  momentum: number
  /** Whether the running statistics are used, and stay as they are, in training too. Weight and bias learn all the same. */
  frozen = false
  /** The processes over whose batches together it takes statistics in training. */
  group: Group = alone
  /** While set, it is shown each input. */
  observer: ((x: Tensor) => void) | null = null

  constructor(channels: number, { eps = 1e-5, momentum = 0.1 } = {}) {
    super()
    this.weight = new Parameter(ones([channels]))
    this.bias = new Parameter(zeros([channels]))
    this.running_mean = new StateBuffer(zeros([channels]))
    this.running_var = new StateBuffer(ones([channels]))
    this.num_batches_tracked = new StateBuffer(zeros([], { dtype: "int64" }))
    this.eps = eps
    this.momentum = momentum
  }

  /** Whether it uses its running statistics, whatever the input. */
  get isFixed(): boolean {
    return !this.training || this.frozen
  }

  protected override forward(x: Tensor): Tensor {
    return this.#normalize(x)
  }

  /** call(), and then everything below `low` is low, above `high` high: the ReLU (low 0) or ReLU6 (high 6) that follows. */
  callClamped(x: Tensor, limits: Limits): Tensor {
    return profileCall(this, () => tidy(() => this.#normalize(x, limits)))
  }

  #normalize(x: Tensor, limits: Limits = {}): Tensor {
    this.observer?.(x)
    const [n, , h, w] = x.shape as [number, number, number, number]
    const useBatch = !this.isFixed && n * h * w * this.group.size > 1
    if (useBatch) this.num_batches_tracked.add_(1)
    if (useBatch && this.group.size > 1) return clamped(this.group.batchNorm(x, this), limits)
    if (levers.fuseBatchNorm && !isRecording()) return batchNormClamp(x, this, useBatch, limits)
    const { weight, bias, running_mean, running_var, momentum, eps } = this
    // cuDNN's flag is read on CUDA only
    return aten.batch_norm(x, weight, bias, running_mean, running_var, useBatch, momentum, eps, true)
  }
}

/** Everything below `low` becomes low, above `high` high, in place where that is possible. */
export function clamped(y: Tensor, { low, high }: Limits): Tensor {
  if (low === undefined) return y
  if (high === undefined) return aten.relu_(y)
  return y.dtype === "bfloat16" ? clampBetween(y, low, high) : aten.hardtanh_(y, { minVal: low, maxVal: high })
}

/** All batch-norms of a module, in order. */
export function batchNormsOf(module: AnyModule): BatchNorm2d[] {
  return Array.from(module.namedModules(), ([, child]) => child).filter((child) => child instanceof BatchNorm2d)
}

/** Normalises groups of channels of each image by itself, so the batch size does not matter. Wu and He 2018, https://arxiv.org/abs/1803.08494 */
export class GroupNorm extends Module {
  readonly weight: Parameter // [C]
  readonly bias: Parameter // [C]
  readonly groups: number
  readonly eps: number

  constructor(groups: number, channels: number, { eps = 1e-5 } = {}) {
    super()
    if (groups < 1 || channels % groups !== 0)
      throw new ShapeError(`GroupNorm: ${channels} channels cannot be split into ${groups} groups.`)
    this.weight = new Parameter(ones([channels]))
    this.bias = new Parameter(zeros([channels]))
    this.groups = groups
    this.eps = eps
  }

  protected override forward(x: Tensor): Tensor {
    const { weight, bias, eps } = this
    return aten.group_norm(x, this.groups, { weight, bias, eps })
  }
}
