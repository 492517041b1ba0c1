// Where NaN and infinity come from: a batch's forward once more, layer by layer.
import type { Batch } from "../data/batch.ts"
import { callIn, deviceOf, type SegmentationModel } from "../models/index.ts"
import { KeptStatistics } from "../nn/index.ts"
import { isAllFinite } from "../optim/index.ts"
import {
  fromData,
  noGrad,
  Parameter,
  type Precision,
  record,
  rngState,
  setRngState,
  Tensor,
  tidy,
} from "../torch/index.ts"

/**
 * What of the forward was not finite first: the images, or the output of a layer and, if so, its weights. The model runs as
 * in training, with the same random numbers, but without the operators that fuse layers; its statistics and the
 * generator are afterwards as before.
 * @returns such as "the output of backbone.3.conv.1 (BatchNorm2d) is not finite"; null when everything is
 */
export function firstNonFiniteOutput(
  model: SegmentationModel,
  { images, shape: [n, h, w] }: Pick<Batch, "images" | "shape">,
  precision: Precision = "float32",
): string | null {
  const names = new Map<object, string>(Array.from(model.namedModules(), ([name, module]) => [module, name]))
  let found: object | null = null
  using statistics = new KeptStatistics(model)
  statistics.keep()
  return tidy(() => {
    using _ = noGrad()
    const device = deviceOf(model)
    const rng = rngState(device)
    const x = fromData(images, [n, 3, h, w], { device })
    if (!isAllFinite(x)) return "these images themselves are not finite"
    try {
      record(() => callIn(precision, model, x), {
        inputs: [x],
        onReturn: (module, result) => {
          if (found === null && !tensorsIn(result).every(isAllFinite)) found = module
        },
      })
    } finally {
      statistics.restore()
      setRngState(rng, device)
    }
    if (found === null) return null
    const bad = Object.entries(found).find(([, value]) => value instanceof Parameter && !isAllFinite(value))
    const layer = `${names.get(found) || "the model"} (${(found as object).constructor.name})`
    return `the output of ${layer} is not finite${bad ? `, nor is its ${bad[0]}` : ""}`
  })
}

const tensorsIn = (result: unknown): Tensor[] =>
  result instanceof Tensor
    ? [result]
    : Object.values(result ?? {}).filter((value): value is Tensor => value instanceof Tensor)
