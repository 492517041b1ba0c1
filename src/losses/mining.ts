// Hard example mining: a step learns from the pixels with the largest losses alone. Most pixels of an image are easy after a
// while; their mean says little about the boundaries and the rare classes that are still wrong.
import { UserError } from "../errors.ts"
import { type Moment, type Position, through } from "../optim/index.ts"
import { aten, type Tensor, tidy } from "../torch/index.ts"
import { quotient, type Total } from "./totals.ts"

/** DeepLab's: the share of pixels that count falls from all of them to `topK` until a place in the run; 0: at once. */
export interface TopK {
  readonly topK: number
  readonly until: Position | 0
}

/**
 * Online hard example mining: the pixels whose class has at most this probability, but at least `minKept` of them (default: a
 * sixteenth of the pixels that are compared, ignored ones included).
 */
export interface Ohem {
  readonly threshold: number
  readonly minKept?: number | undefined
}

export type Mining = TopK | Ohem

/** Share of the pixels that top-k mining counts in a step: 1 - r + r topK, r how much of the way to `until` is done. */
export function minedShare({ topK, until }: TopK, at: Moment): number {
  const r = until === 0 ? 1 : through(until, at)
  return r * topK + (1 - r)
}

/**
 * The mean of the k largest losses, k = trunc(share N), N all pixels of the batch, ignored ones included. As in TensorFlow's
 * DeepLab it is divided by the number of those k that are not 0, so ignored pixels among them do not thin it.
 * Of all pixels it is therefore crossEntropy's "mean-over-pixels", but where losses are exactly 0: of classes that weigh 0, and in
 * float32 of probabilities that round to 1. Those do not count as pixels here.
 * @param losses [N, H, W], weighted; 0 where ignored
 * @param share above 0, at most 1
 * @param total where the batch is spread over processes: each takes the k largest of its own part, and the mean is of all those
 * @returns scalar []; 0 where all of the k are 0
 * @see https://github.com/tensorflow/models/blob/master/research/deeplab/utils/train_utils.py
 */
export function meanOfTopK(losses: Tensor, share: number, total?: Total): Tensor {
  if (!(share > 0 && share <= 1))
    throw new UserError(`top-k mining: the share is ${share}; expected above 0, at most 1.`)
  return tidy(() => {
    const k = Math.max(1, Math.trunc(share * losses.numel))
    const kept = k === losses.numel ? losses : aten.topk(losses.flatten(), k, { sorted: false })[0]
    return quotient(kept.sum(), kept.ne(0).sum(), total)
  })
}

/**
 * Which pixels are hard: those whose class has a probability of at most `threshold`, and in any case the `minKept` least
 * probable ones of those that are not ignored. Threshold 1 keeps all.
 * @param nll [N, H, W], -log p of each pixel's class
 * @param counted [N, H, W] bool, false where ignored
 * @returns [N, H, W] bool
 * @see Shrivastava et al. 2016, https://arxiv.org/abs/1604.03540; for pixels https://github.com/hszhao/semseg
 */
export function hardPixels(
  nll: Tensor,
  counted: Tensor,
  { threshold, minKept }: { threshold: number; minKept: number },
): Tensor {
  if (!(threshold > 0 && threshold <= 1)) {
    throw new UserError(`ohem: the threshold is ${threshold}; expected a probability above 0, at most 1.`)
  }
  return tidy(() => {
    // p <= threshold is -log p >= -log threshold. Ignored pixels have 0, and come after all others.
    let least = -Math.log(threshold)
    const count = Math.min(minKept, counted.sum().item())
    if (count > 0) {
      const [hardest] = aten.topk(nll.flatten(), count, { sorted: false })
      least = Math.min(least, hardest.min().item())
    }
    return aten.logical_and(nll.ge(least), counted)
  })
}
