// Batch-norm that was folded into its convolution: weight 1, mean 0, variance 1, only the bias says something. Weights that
// come back from a quantised or exported model look so. Such a layer passes everything on in eval(), but in training it
// takes the batch's mean and variance away, which nothing gives back: the network forgets what it knew. (Seen: LR-ASPP on
// folded MobileNetV2 reached 33 % mIoU on CamVid, a smaller one with its statistics 60 %.)
import { alone, fromData, type Group, noGrad, type Tensor, tidy } from "../torch/index.ts"
import type { AnyModule } from "./module.ts"
import { type BatchNorm2d, batchNormsOf } from "./norm.ts"

/**
 * The folded batch-norms of a module: with variance 1, or 1 - eps, which makes the layer exact (MobileNetV3's eps is 1e-3).
 * New layers have the same statistics but no bias yet, and are not counted.
 */
export function foldedBatchNorms(module: AnyModule): BatchNorm2d[] {
  return tidy(() =>
    batchNormsOf(module).filter(({ weight, bias, running_mean, running_var, eps }) => {
      const is = (tensor: Tensor, value: number) => tensor.sub(value).abs().max().item() < 1e-4
      return is(weight, 1) && is(running_mean, 0) && (is(running_var, 1) || is(running_var, 1 - eps)) && !is(bias, 0)
    }),
  )
}

/**
 * Gives a module's folded batch-norms the statistics that their inputs have, and weights and biases that undo them, so that
 * it computes in eval() what it did, and in training about the same. Nothing else changes: it runs in eval mode.
 * @param forward runs the module on one batch; its inputs should look like the training's
 * @param batches how often
 * @param group the processes that have equal parts of them
 * @returns how many were folded; when none were, nothing runs
 */
export function unfoldBatchNorms(
  module: AnyModule,
  forward: () => void,
  batches: number,
  group: Group = alone,
): number {
  const norms = foldedBatchNorms(module)
  if (norms.length === 0) return 0
  const modes = Array.from(module.namedModules(), ([, child]) => [child, child.training] as const)
  const moments = norms.map(({ bias }) => ({
    mean: new Float64Array(bias.numel),
    square: new Float64Array(bias.numel),
  }))
  for (const [k, norm] of norms.entries()) {
    const { mean, square } = moments[k]!
    norm.observer = (x) =>
      tidy(() => {
        const values = x.to({ dtype: "float64" })
        addTo(mean, values.mean({ dim: [0, 2, 3] }), batches)
        addTo(square, values.mul(values).mean({ dim: [0, 2, 3] }), batches)
      })
  }
  using _ = noGrad()
  try {
    module.eval() // so that all layers see what they always saw, and other norms keep their statistics
    for (let k = 0; k < batches; k++) tidy(forward)
  } finally {
    for (const [child, training] of modes) child.training = training
    for (const norm of norms) norm.observer = null
  }
  for (const moment of moments) {
    moment.mean = group.sumNumbers(moment.mean).map((sum) => sum / group.size)
    moment.square = group.sumNumbers(moment.square).map((sum) => sum / group.size)
  }
  tidy(() => {
    for (const [k, { weight, bias, running_mean, running_var, eps }] of norms.entries()) {
      const { mean, square } = moments[k]!
      const variance = square.map((value, c) => Math.max(0, value - mean[c]! ** 2))
      const { device } = weight
      const means = fromData(mean, [mean.length], { device }) // float64 [C]
      const variances = fromData(variance, [mean.length], { device })
      const deviation = running_var.to({ dtype: "float64" }).add(eps).sqrt()
      const factor = weight.to({ dtype: "float64" }).div(deviation) // of what passes in eval()
      bias.copy_(means.sub(running_mean).mul(factor).add(bias))
      weight.copy_(variances.add(eps).sqrt().mul(factor))
      running_mean.copy_(means)
      running_var.copy_(variances)
    }
  })
  return norms.length
}

function addTo(sum: Float64Array, values: Tensor, batches: number): void {
  for (const [c, value] of (values.data() as Float64Array).entries()) sum[c]! += value / batches
}
