// Shapes for the tests of operators that enlarge logits in passing (src/torch/upsampled-*.test.ts).
import type { Tensor } from "../../src/torch/index.ts"

/** Of small logits [N, K, h, w] and of the labels [H, W] beside them: what an operator that enlarges in passing must get right. */
export const enlargements = [
  { shape: [2, 3, 4, 5], size: [8, 10] },
  { shape: [1, 2, 1, 1], size: [7, 3] }, // one value for all pixels
  { shape: [2, 21, 9, 8], size: [65, 57] },
  { shape: [1, 5, 6, 7], size: [6, 7] }, // nothing to enlarge
  { shape: [2, 4, 9, 11], size: [5, 6] }, // made smaller
  { shape: [1, 150, 5, 5], size: [33, 35] },
  { shape: [5, 7, 8, 8], size: [64, 64] },
  { shape: [5, 8, 8, 8], size: [64, 64] }, // no lane is left over
] as const

/** Largest difference, as a part of the largest value. */
export const relativeError = (got: Tensor, exact: Tensor): number =>
  got.sub(exact).abs().max().item() / exact.abs().max().item()
