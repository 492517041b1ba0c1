// The losses by name. To add one: write its file and add one line here.
import type { Tensor } from "../torch/index.ts"
import { crossEntropy } from "./cross-entropy.ts"

/** What every loss can be told. */
export interface LossOptions {
  /** [K], one per class: how much its pixels count. */
  weight?: Tensor
  /** Label of pixels that count nowhere. */
  ignoreIndex?: number
}

/** logits [N, K, H, W] before softmax, target [N, H, W] int64; the result is a scalar to minimise. */
export type Loss = (logits: Tensor, target: Tensor, options?: LossOptions) => Tensor

export const losses = {
  "cross-entropy": crossEntropy,
} satisfies Record<string, Loss>

export type LossName = keyof typeof losses
export const lossNames = Object.keys(losses) as LossName[]

export { type CrossEntropyOptions, crossEntropy } from "./cross-entropy.ts"
