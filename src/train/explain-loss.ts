// What the loss counts, divides by and leaves out, as facts.
import type { Census } from "../data/census.ts"
import { classWeightsOf } from "../losses/class-weights.ts"
import { minedShare } from "../losses/mining.ts"
import { isPixelwise, parseLoss } from "../losses/objective.ts"
import type { TrainConfig } from "./config.ts"
import type { Known } from "./explain.ts"
import { uncounted } from "./explain-preprocessing.ts"
import { type Fact, fact, firstStepAt, momentAt, number, plural } from "./facts.ts"
import { miningOf } from "./objective.ts"
import { parameterPlaces } from "./parameter-groups.ts"
import type { ResolvedConfig } from "./prepare.ts"

export function lossFacts(
  config: ResolvedConfig,
  { model, data, classes, classWeights }: Known,
  steps: number | null,
): Fact[] {
  const { loss, labelSmoothing, focalGamma, auxWeight, upsampleLogits, alignCorners, imagePyramid, groundTruth } =
    config
  const terms = parseLoss(loss)
  const hasPixels = terms.some(isPixelwise)
  const regions = terms.filter((term) => !isPixelwise(term)).map(({ name }) => name)
  const hasAux = parameterPlaces(model).some(({ isAux }) => isAux)
  const losses = (imagePyramid?.length ?? 1) > 1 ? imagePyramid!.length + 1 : 1
  return [
    fact("loss", loss, `${loss}${groundTruth === "alpha" ? ", of two classes to which a pixel belongs in part" : ""}`),
    ...(labelSmoothing > 0 ? [fact("label smoothing", labelSmoothing)] : []),
    ...(terms.some(({ name }) => name === "focal") ? [fact("focal gamma", focalGamma ?? 2)] : []),
    ...(hasPixels ? [fact("denominator", denominatorOf(config))] : []),
    ...(regions.length > 0
      ? [fact("regions", regions, `${regions.join(", ")}: sums over the pixels of the batch together, by classes`)]
      : []),
    ...weightFacts(config, classes, data?.census ?? null, classWeights ?? null),
    ...miningFacts(config, steps),
    fact(
      "void pixels",
      { label: 255, gradient: 0, countedInShare: config.topK !== null },
      `label 255, padding among them: in no sum and no mean, their gradient is exactly 0; a batch of nothing else has loss 0${config.topK === null ? "" : ". But the share of the mined pixels is one of all pixels, void ones too"}`,
    ),
    ...(model.upsampleLogits === undefined
      ? []
      : [
          fact(
            "logits",
            { upsampled: upsampleLogits, alignCorners },
            `${upsampleLogits ? "enlarged to the size of the labels (bilinear" : "as they are made; labels are made as small (nearest"}, ${alignCorners ? "corners on corners" : "edges on edges"})`,
          ),
        ]),
    ...(losses > 1
      ? [fact("image pyramid", losses, `${losses} losses are added: of each size and of what they merge into`)]
      : []),
    ...(hasAux ? [fact("auxiliary head", auxWeight ?? 0.4, `its loss counts ${number(auxWeight ?? 0.4)}`)] : []),
  ]
}

/** What losses of pixels are divided by. */
function denominatorOf({ classWeights, weightReduction, topK, ohemThreshold, ohemMinKept }: TrainConfig): string {
  const loss = classWeights === "none" ? "loss" : "weight x loss"
  if (topK !== null) return `sum of the k largest ${loss} / number of those that are not 0, k = trunc(share x pixels)`
  const which = ohemThreshold === null ? "pixels that are not void" : "pixels that are hard"
  const hard =
    ohemThreshold === null
      ? ""
      : `; hard: the class has a probability of at most ${number(ohemThreshold)}, but at least ${ohemMinKept === null ? "a sixteenth of all pixels" : plural(ohemMinKept, "pixel")}`
  if (classWeights === "none" || weightReduction === "pixels") return `sum(${loss}) / number of ${which}${hard}`
  return `sum(${loss}) / sum(weight), over ${which}${hard}`
}

function weightFacts(
  { classWeights, effectiveBeta }: TrainConfig,
  classes: Known["classes"],
  census: Census | null,
  kept: readonly number[] | null,
): Fact[] {
  if (classWeights === "none") return [fact("class weights", null, "none")]
  const names = typeof classes === "number" ? Array.from({ length: classes }, (_, k) => String(k)) : classes
  const isCounted = typeof classWeights !== "string" || census !== null
  const count = () => classWeightsOf(classWeights, census ?? uncounted, names, { beta: effectiveBeta ?? undefined })
  const weights = kept ?? (isCounted ? count() : null)
  const rule = typeof classWeights === "string" ? classWeights : "given"
  const listed = weights
    ?.map((weight, k) => (typeof classes === "number" ? "" : `${names[k]} `) + number(weight))
    .join(", ")
  return [
    fact(
      "class weights",
      { rule, weights, beta: effectiveBeta },
      `${rule}: ${listed ?? "from how often the classes of the data occur"}`,
    ),
  ]
}

function miningFacts(config: ResolvedConfig, steps: number | null): Fact[] {
  const mining = miningOf(config)
  if (!mining) return []
  if (!("topK" in mining)) return [fact("hard pixels", mining, "by their probability, the same at every step")]
  const { until } = mining
  // Places are steps; of a share of a run whose steps nobody knows, shares.
  const inSteps = steps !== null || until >= 1
  const end = until < 1 && steps !== null ? firstStepAt(until * steps) : until
  const corners: [name: string, place: number][] =
    until === 0
      ? [["at every step", 0]]
      : [
          ["first", 0],
          ["half way", inSteps ? Math.floor(end / 2) : end / 2],
          ...(inSteps ? [["one step before", end - 1] as [string, number]] : []),
          ["from then on", end],
          ...(steps === null ? [] : [["last step", steps - 1] as [string, number]]),
        ]
  const at = (name: string, place: number) => {
    const share = minedShare(mining, steps === null && inSteps ? { step: place, progress: 0 } : momentAt(place, steps))
    const when = inSteps ? `step ${place}` : `at ${number(100 * place)} % of the run`
    const where = inSteps ? { step: place } : { progress: place }
    return fact(`mined ${name}`, { ...where, share }, `${number(100 * share)} % of the pixels of a batch (${when})`)
  }
  return corners
    .filter(([, place]) => place < (steps ?? Number.POSITIVE_INFINITY))
    .map(([name, place]) => at(name, place))
}
