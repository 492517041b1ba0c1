// The losses by name. To add one: write its file and add one line here (one of pixels, or of sums over regions: in objective.ts too).
import type { Tensor } from "../torch/index.ts"
import { boundary } from "./boundary.ts"
import { crossEntropy } from "./cross-entropy.ts"
import { dice } from "./dice.ts"
import { focal } from "./focal.ts"
import { generalizedDice } from "./generalized-dice.ts"
import { hausdorff } from "./hausdorff.ts"
import { jaccard } from "./jaccard.ts"
import { lovaszSoftmax } from "./lovasz-softmax.ts"
import type { Total } from "./totals.ts"
import { tversky } from "./tversky.ts"

/** What every loss can be told. */
export interface LossOptions {
  /** [K], one per class: how much its pixels count. */
  weight?: Tensor
  /** Label of pixels that count nowhere. */
  ignoreIndex?: number
  /** Where the batch is spread over processes. */
  total?: Total | undefined
}

/** logits [N, K, H, W] before softmax, target [N, H, W] int64; the result is a scalar to minimise. */
export type Loss = (logits: Tensor, target: Tensor, options?: LossOptions) => Tensor

export const losses = {
  "cross-entropy": crossEntropy,
  focal,
  dice,
  "generalized-dice": generalizedDice,
  jaccard,
  tversky,
  "lovasz-softmax": lovaszSoftmax,
  hausdorff,
  boundary,
} satisfies Record<string, Loss>

export type LossName = keyof typeof losses
export const lossNames = Object.keys(losses) as LossName[]

export { boundary } from "./boundary.ts"
export { type ClassCounts, classWeightingNames, classWeightsOf } from "./class-weights.ts"
export { type CrossEntropyOptions, crossEntropy, type Reduction } from "./cross-entropy.ts"
export { type DiceOptions, dice } from "./dice.ts"
export { type FocalOptions, focal } from "./focal.ts"
export { generalizedDice } from "./generalized-dice.ts"
export { type HausdorffOptions, hausdorff } from "./hausdorff.ts"
export { type JaccardOptions, jaccard } from "./jaccard.ts"
export { lovaszSoftmax } from "./lovasz-softmax.ts"
export { type MattingOptions, mattingCrossEntropy } from "./matting.ts"
export { hardPixels, type Mining, meanOfTopK, minedShare, type Ohem, type TopK } from "./mining.ts"
export type { Total } from "./totals.ts"
export { type TverskyOptions, tversky } from "./tversky.ts"
