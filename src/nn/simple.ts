// Layers without parameters: activations, dropout, pooling, resizing.
import { aten, type Tensor } from "../torch/index.ts"
import type { Pair } from "./conv.ts"
import { clampBetween, type InterpolateMode } from "./functional.ts"
import { Module } from "./module.ts"

export class ReLU extends Module {
  protected override forward(x: Tensor): Tensor {
    return aten.relu(x)
  }
}

/** min(max(x, 0), 6): keeps its precision in few bits. Howard et al. 2017, MobileNets, https://arxiv.org/abs/1704.04861 */
export class ReLU6 extends Module {
  protected override forward(x: Tensor): Tensor {
    return clampBetween(x, 0, 6)
  }
}

/** x min(max(x + 3, 0), 6) / 6. Howard et al. 2019, MobileNetV3, https://arxiv.org/abs/1905.02244 */
export class Hardswish extends Module {
  protected override forward(x: Tensor): Tensor {
    return aten.hardswish(x)
  }
}

export class Sigmoid extends Module {
  protected override forward(x: Tensor): Tensor {
    return aten.sigmoid(x)
  }
}

export class Identity extends Module {
  protected override forward(x: Tensor): Tensor {
    return x.alias()
  }
}

/** Zeroes single elements with probability `p` while training and scales the others by 1/(1-p). */
export class Dropout extends Module {
  readonly p: number

  constructor(p = 0.5) {
    super()
    this.p = p
  }

  protected override forward(x: Tensor): Tensor {
    return this.training ? aten.dropout(x, this.p, true) : x.alias()
  }
}

/** Zeroes whole channels instead of single elements. Tompson et al. 2015, https://arxiv.org/abs/1411.4280 */
export class Dropout2d extends Module {
  readonly p: number

  constructor(p = 0.5) {
    super()
    this.p = p
  }

  protected override forward(x: Tensor): Tensor {
    return this.training ? aten.feature_dropout(x, this.p, true) : x.alias()
  }
}

interface PoolOptions {
  /** Default: the kernel's size. */
  stride?: Pair
  padding?: Pair
  ceilMode?: boolean
}

export class MaxPool2d extends Module {
  readonly kernel: Pair
  readonly options: PoolOptions

  constructor(kernel: Pair, options: PoolOptions = {}) {
    super()
    this.kernel = kernel
    this.options = options
  }

  protected override forward(x: Tensor): Tensor {
    return aten.max_pool2d(x, this.kernel, this.options)
  }
}

export class AvgPool2d extends Module {
  readonly kernel: Pair
  readonly options: PoolOptions & { countIncludePad?: boolean }

  constructor(kernel: Pair, options: PoolOptions & { countIncludePad?: boolean } = {}) {
    super()
    this.kernel = kernel
    this.options = options
  }

  protected override forward(x: Tensor): Tensor {
    return aten.avg_pool2d(x, this.kernel, this.options)
  }
}

/** Averages over a grid of `size` cells, whatever the input's size. */
export class AdaptiveAvgPool2d extends Module {
  readonly size: Pair

  constructor(size: Pair) {
    super()
    this.size = size
  }

  protected override forward(x: Tensor): Tensor {
    return aten.adaptive_avg_pool2d(x, this.size)
  }
}

/**
 * x [N, C, H, W] -> [N, C, floor(scale H), floor(scale W)]. As in PyTorch, source positions follow `scale` itself, where
 * interpolate() takes the ratio of the sizes: they differ when scale H is not whole.
 */
export class Upsample extends Module {
  readonly scale: number
  readonly mode: InterpolateMode
  readonly alignCorners: boolean

  constructor(scale: number, { mode = "nearest" as InterpolateMode, alignCorners = false } = {}) {
    super()
    this.scale = scale
    this.mode = mode
    this.alignCorners = alignCorners
  }

  protected override forward(x: Tensor): Tensor {
    const { scale, mode, alignCorners } = this
    const scales = [scale, scale]
    if (mode === "nearest") return aten.upsample_nearest2d_vec(x, null, scales)
    return aten.upsample_bilinear2d_vec(x, null, alignCorners, scales)
  }
}
