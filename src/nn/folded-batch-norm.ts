// Batch-norm that was folded into its convolution: weight 1, mean 0, variance 1, only the bias says something. Weights that
// come back from a quantised or exported model look so. Such a layer passes everything on in eval(), but in training it
// takes the batch's mean and variance away, which nothing gives back: the network forgets what it knew. (Seen: LR-ASPP on
// folded MobileNetV2 reached 33 % mIoU on CamVid, a smaller one with its statistics 60 %.)
import { fromData, noGrad, type Tensor, tidy } from "../torch/index.ts"
import type { AnyModule } from "./module.ts"
import { BatchNorm2d } from "./norm.ts"

/** The folded batch-norms of a module. New layers have the same statistics but no bias yet, and are not counted. */
export function foldedBatchNorms(module: AnyModule): BatchNorm2d[] {
  const norms = Array.from(module.namedModules(), ([, child]) => child).filter((child) => child instanceof BatchNorm2d)
  return tidy(() =>
    norms.filter(({ weight, bias, running_mean, running_var }) => {
      const is = (tensor: Tensor, value: number) => tensor.sub(value).abs().max().item() < 1e-4
      return is(weight, 1) && is(running_mean, 0) && is(running_var, 1) && !is(bias, 0)
    }),
  )
}

/**
 * Gives folded batch-norms the statistics that their inputs have, and sets weight = sqrt(variance) and bias = bias + mean, so
 * that the module computes in eval() what it did, and in training about the same.
 * @param forward runs the module on one batch; its inputs should look like the training's
 * @param batches how often
 */
export function unfoldBatchNorms(norms: readonly BatchNorm2d[], forward: () => void, batches: number): void {
  const modes = norms.map(({ training }) => training)
  const moments = norms.map(({ bias }) => ({
    mean: new Float64Array(bias.numel),
    square: new Float64Array(bias.numel),
  }))
  for (const [k, norm] of norms.entries()) {
    const { mean, square } = moments[k]!
    norm.training = false // so that the layers behind see what they always saw
    norm.observer = (x) =>
      tidy(() => {
        const values = x.to({ dtype: "float64" })
        addTo(mean, values.mean({ dim: [0, 2, 3] }), batches)
        addTo(square, values.mul(values).mean({ dim: [0, 2, 3] }), batches)
      })
  }
  using _ = noGrad()
  try {
    for (let k = 0; k < batches; k++) tidy(forward)
  } finally {
    for (const [k, norm] of norms.entries()) {
      norm.training = modes[k]!
      norm.observer = null
    }
  }
  tidy(() => {
    for (const [k, { weight, bias, running_mean, running_var, eps }] of norms.entries()) {
      const { mean, square } = moments[k]!
      const variance = square.map((value, c) => Math.max(0, value - mean[c]! ** 2))
      weight.copy_(
        fromData(
          variance.map((v) => Math.sqrt(v + eps)),
          weight.shape,
        ),
      )
      bias.add_(fromData(mean, bias.shape).to({ dtype: bias.dtype }))
      running_mean.copy_(fromData(mean, running_mean.shape))
      running_var.copy_(fromData(variance, running_var.shape))
    }
  })
}

function addTo(sum: Float64Array, values: Tensor, batches: number): void {
  for (const [c, value] of (values.data() as Float64Array).entries()) sum[c]! += value / batches
}
