// What a training step minimises: a sum of losses on a model's output and its auxiliary head's, of all pixels or of hard ones.
//
//   logits [N, K, h, w] --- a loss of each pixel -- class weights -- mining -- mean --.
//                      `--- enlarged to the labels -- a loss of regions ---------------+-- sum --+-- the step's loss
//   logits of each scale of an image pyramid, the same --------------------------------------+
//   aux, the same ---------------------------------------------------------------------- x 0.4 --'
import { didYouMean, UserError } from "../errors.ts"
import { interpolate } from "../nn/index.ts"
import type { Moment } from "../optim/index.ts"
import { alone, aten, fromData, type Group, levers, type Tensor, tidy, upsampledCrossEntropy } from "../torch/index.ts"
import { checkWeight, namingLabels } from "./check.ts"
import { crossEntropy, type Reduction, reduceLosses, weigh } from "./cross-entropy.ts"
import { dice } from "./dice.ts"
import { focus } from "./focal.ts"
import { generalizedDice } from "./generalized-dice.ts"
import { type Loss, type LossName, losses, lossNames } from "./index.ts"
import { jaccard } from "./jaccard.ts"
import { mattingCrossEntropy } from "./matting.ts"
import { hardPixels, type Mining, meanOfTopK, minedShare } from "./mining.ts"
import type { OverlapOptions } from "./region.ts"
import type { Total } from "./totals.ts"
import { tversky } from "./tversky.ts"

/** One of the losses that are added up, and its factor. */
export interface LossTerm {
  readonly name: LossName
  readonly factor: number
}

export interface ObjectiveOptions {
  readonly terms: readonly LossTerm[]
  /** [K], one per class. The caller's. */
  readonly weight?: Tensor | undefined
  /** Of the losses of pixels. */
  readonly reduction?: Exclude<Reduction, "none">
  readonly labelSmoothing?: number
  readonly focalGamma?: number
  readonly mining?: Mining | undefined
  /** Whether the logits are enlarged to the size of the labels (bilinear); otherwise the labels are made as small (nearest). */
  readonly upsampleLogits?: boolean
  /** Whether the one or the other keeps the centres of the corner pixels in place, or the edges of the picture. */
  readonly alignCorners?: boolean
  /** Factor of the auxiliary head's loss. */
  readonly auxWeight?: number
  /**
   * The processes that share a batch. The mean over them of what each gets is the whole batch's loss: each itself gets that,
   * where the loss is made of sums over the batch. lovasz-softmax is not, it sorts a part's pixels; its mean over the
   * parts is minimised. Hard pixels are chosen in each part by itself, as many as its share of the whole batch.
   */
  readonly group?: Group
}

export interface Truth {
  /** [N, H, W] int64 in 0..K-1, or 255: ignored. */
  readonly labels: Tensor
  /**
   * [N, H, W] float from 0 to 1, or 255, where the truth is a matte; the labels are then not looked at. Its loss is
   * `mattingCrossEntropy`, of all pixels or the top k.
   */
  readonly alpha?: Tensor | undefined
}

/** @param at where the run is, which the share of mined pixels may depend on */
export type Objective = (
  output: { readonly logits: Tensor; readonly aux?: Tensor; readonly scales?: readonly Tensor[] },
  truth: Truth,
  at: Moment,
) => Tensor

const IGNORE = 255

const totalOf = ({ group = alone }: ObjectiveOptions): Total | undefined =>
  group.size > 1 ? (own) => group.sum(own) : undefined

/**
 * Losses that are a mean of losses of pixels, as what they make of a pixel's -log p. These can be mined, and enlarge small
 * logits in passing: a loss of pixels has its line here beside that in index.ts.
 */
const pixelwise: Readonly<Partial<Record<LossName, (nll: Tensor, options: ObjectiveOptions) => Tensor>>> = {
  "cross-entropy": (nll) => nll,
  focal: (nll, { focalGamma }) => focus(nll, focalGamma),
}
export const isPixelwise = ({ name }: LossTerm): boolean => pixelwise[name] !== undefined

/** Losses of sums over regions, which enlarge small logits in passing themselves. */
const enlarging: Readonly<
  Partial<Record<LossName, (logits: Tensor, target: Tensor, options: OverlapOptions) => Tensor>>
> = {
  dice,
  "generalized-dice": generalizedDice,
  jaccard,
  tversky,
}

/**
 * "cross-entropy", "cross-entropy + 0.5 dice", "0.7 focal + 0.3 lovasz-softmax".
 * @throws UserError naming the part that is not understood
 */
export function parseLoss(text: string): LossTerm[] {
  const terms = text.split(/\s*\+\s*/).map((part) => {
    const match = /^(?:(\d+(?:\.\d+)?(?:e-?\d+)?)\s*\*?\s*)?([a-z][a-z-]*)$/.exec(part.trim())
    const name = match?.[2] ?? ""
    if (!match || !(lossNames as string[]).includes(name)) {
      throw new UserError(
        `There is no loss "${match ? name : part.trim()}".${didYouMean(name, lossNames)} Expected one of ${lossNames.join(", ")}, or a sum such as "cross-entropy + 0.5 dice".`,
      )
    }
    return { name: name as LossName, factor: Number(match[1] ?? 1) }
  })
  for (const { name, factor } of terms) {
    if (!(factor > 0))
      throw new UserError(`The loss "${text}" counts ${name} with ${factor}; expected a factor above 0.`)
    if (terms.filter((term) => term.name === name).length > 1) {
      throw new UserError(`The loss "${text}" has ${name} twice; give it once, with the sum of the factors.`)
    }
  }
  return terms
}

/** The function that a training step minimises. */
export function createObjective(options: ObjectiveOptions): Objective {
  const { auxWeight = 0.4, upsampleLogits = true, alignCorners } = options // 0.4: Zhao et al. 2017, https://arxiv.org/abs/1612.01105
  const lossOf = (logits: Tensor, { labels, alpha }: Truth, at: Moment): Tensor => {
    const small = [logits.size(2), logits.size(3)] as const
    const atSize = (truth: Tensor) => (upsampleLogits ? truth : shrinkLabels(truth, small, { alignCorners }))
    if (alpha) return matteLoss(logits, atSize(alpha), options, at)
    const target = atSize(labels)
    const terms = options.terms.map((term) => {
      const value = isPixelwise(term)
        ? pixelLoss(term.name, logits, target, options, at)
        : regionLoss(term.name, logits, target, options)
      return term.factor === 1 ? value : value.mul(term.factor)
    })
    return terms.reduce((sum, value) => sum.add(value))
  }
  return ({ logits, aux, scales = [] }, truth, at) =>
    tidy(() => {
      const loss = [logits, ...scales].map((each) => lossOf(each, truth, at)).reduce((sum, each) => sum.add(each))
      return aux && auxWeight > 0 ? loss.add(lossOf(aux, truth, at), { alpha: auxWeight }) : loss
    })
}

function regionLoss(name: LossName, logits: Tensor, target: Tensor, options: ObjectiveOptions): Tensor {
  const { weight, alignCorners } = options
  const common = { weight, total: totalOf(options) }
  const enlargingLoss = enlarging[name]
  if (enlargingLoss) return enlargingLoss(logits, target, { ...common, alignCorners })
  return (losses[name] as Loss)(atSizeOf(logits, target, options), target, common)
}

function pixelLoss(name: LossName, logits: Tensor, target: Tensor, options: ObjectiveOptions, at: Moment): Tensor {
  const { weight, reduction = "mean", labelSmoothing = 0, mining, group = alone } = options
  const total = totalOf(options)
  checkWeight(name, logits, weight)
  const common = { weight, reduction, ignoreIndex: IGNORE, total }
  const smoothing = name === "cross-entropy" ? labelSmoothing : 0
  const isWeightedSmoothing = smoothing > 0 && weight !== undefined // each class's share of the target has its own weight
  if (name === "cross-entropy" && !mining && (isWeightedSmoothing || isSameSize(logits, target))) {
    return crossEntropy(atSizeOf(logits, target, options), target, { ...common, labelSmoothing: smoothing })
  }
  let each: Tensor // [N, H, W], weighted
  let nll: Tensor | undefined
  if (isWeightedSmoothing) {
    const large = atSizeOf(logits, target, options)
    each = crossEntropy(large, target, { ...common, labelSmoothing: smoothing, reduction: "none" })
  } else if (smoothing > 0) {
    each = negativeLogLikelihood(logits, target, options, smoothing)
  } else {
    nll = negativeLogLikelihood(logits, target, options)
    each = weigh(pixelwise[name]!(nll, options), target, weight, IGNORE)
  }
  if (!mining) return reduceLosses(each, target, common)
  if ("topK" in mining) return meanOfTopK(each, minedShare(mining, at), total)
  const { threshold } = mining
  const minKept = mining.minKept === undefined ? Math.floor(target.numel / 16) : Math.ceil(mining.minKept / group.size)
  const likelihood = (nll ?? negativeLogLikelihood(logits, target, options)).detach()
  const hard = hardPixels(likelihood, target.ne(IGNORE), { threshold, minKept })
  const mined = aten.masked_fill_Scalar(target, aten.logical_not(hard), IGNORE)
  return reduceLosses(each.mul(hard), mined, common)
}

/** @throws UserError for what a matte cannot have: class weights, smoothing, OHEM, another loss */
function matteLoss(logits: Tensor, alpha: Tensor, options: ObjectiveOptions, at: Moment): Tensor {
  const { terms, weight, labelSmoothing = 0, mining } = options
  const [{ name, factor }] = terms as [LossTerm]
  if (terms.length > 1 || name !== "cross-entropy" || labelSmoothing > 0 || (mining && !("topK" in mining))) {
    throw new UserError(
      "The truth is an alpha matte: expected the loss cross-entropy, without smoothing, of all pixels or the top k.",
    )
  }
  const each = mattingCrossEntropy(atSizeOf(logits, alpha, options), alpha, {
    weight,
    reduction: mining ? "none" : "mean",
    total: totalOf(options),
  })
  const value = mining ? meanOfTopK(each, minedShare(mining, at), totalOf(options)) : each
  return factor === 1 ? value : value.mul(factor)
}

/** -log p of each pixel's class, [N, H, W]; of smaller logits as if they were enlarged. @param labelSmoothing as in crossEntropy */
function negativeLogLikelihood(logits: Tensor, target: Tensor, options: ObjectiveOptions, labelSmoothing = 0): Tensor {
  // On a GPU a wrong label would end the process; crossEntropy looks at each first.
  if (isSameSize(logits, target) || !levers.upsampleLoss || logits.device !== "cpu") {
    const all = { ignoreIndex: IGNORE, reduction: "none", labelSmoothing } as const
    return crossEntropy(atSizeOf(logits, target, options), target, all)
  }
  const { alignCorners } = options
  return namingLabels("crossEntropy", logits, target, IGNORE, () =>
    upsampledCrossEntropy(logits, target, { ignoreIndex: IGNORE, alignCorners, labelSmoothing }),
  )
}

const isSameSize = (logits: Tensor, target: Tensor): boolean =>
  logits.size(2) === target.size(1) && logits.size(3) === target.size(2)

/** Logits at the size of the labels. */
const atSizeOf = (logits: Tensor, target: Tensor, { alignCorners }: ObjectiveOptions): Tensor =>
  isSameSize(logits, target) ? logits : interpolate(logits, [target.size(1), target.size(2)], { alignCorners })

/**
 * Labels (or alphas) [N, H, W] at a smaller size, each the one nearest to it. Pixel i of n small ones takes pixel
 * floor((i + 0.5) N / n), as PyTorch's nearest-exact does; with alignCorners round(i (N - 1) / (n - 1)), as TensorFlow's DeepLab
 * does where it keeps the logits small.
 */
export function shrinkLabels(
  labels: Tensor,
  [height, width]: readonly [number, number],
  { alignCorners = false } = {},
): Tensor {
  const nearest = (large: number, small: number): Tensor => {
    const step = small > 1 ? (large - 1) / (small - 1) : 0
    const source = (i: number) => Math.floor(alignCorners ? i * step + 0.5 : ((i + 0.5) * large) / small)
    return fromData(
      BigInt64Array.from({ length: small }, (_, i) => BigInt(source(i))),
      [small],
    )
  }
  return tidy(() => {
    const rows = aten.index_select(labels, 1, nearest(labels.size(1), height).to({ device: labels.device }))
    return aten.index_select(rows, 2, nearest(labels.size(2), width).to({ device: labels.device }))
  })
}
