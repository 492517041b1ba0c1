// What a configuration says about the loss: which options go together, and the function that a training step minimises.
import { existsSync, readFileSync } from "node:fs"
import { UserError } from "../errors.ts"
import type { Mining } from "../losses/mining.ts"
import { createObjective, isPixelwise, type LossTerm, type Objective, parseLoss } from "../losses/objective.ts"
import type { Group, Tensor } from "../torch/index.ts"
import type { NameKey, TrainConfig } from "./config.ts"
import type { ResolvedConfig } from "./prepare.ts"
import type { RunFolder } from "./run-folder.ts"

/** Where none is asked for. */
export const DEFAULT_LOSS = "cross-entropy"

/** @throws UserError when the loss is not understood, or an option would do nothing for it */
export function refuseIdleLosses(config: TrainConfig, name: NameKey): void {
  const loss = config.loss ?? DEFAULT_LOSS
  let terms: LossTerm[]
  try {
    terms = parseLoss(loss)
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause
    throw new UserError(`${name("loss")} is "${loss}": ${cause.message}`, { cause })
  }
  const refuse = (key: keyof TrainConfig, text: string) => {
    throw new UserError(`${name(key)} ${text}`)
  }
  const has = (name: string) => terms.some((term) => term.name === name)
  const { labelSmoothing, focalGamma, topK, miningSteps, ohemThreshold, ohemMinKept, classWeights } = config
  if ((labelSmoothing ?? 0) > 0 && !has("cross-entropy"))
    refuse("labelSmoothing", `is for cross-entropy, and the loss is ${loss}.`)
  if (focalGamma !== null && !has("focal")) refuse("focalGamma", `is for focal, and the loss is ${loss}.`)
  if (topK !== null && ohemThreshold !== null)
    refuse("topK", `and ${name("ohemThreshold")} are two ways of choosing hard pixels: give one.`)
  if (miningSteps !== null && topK === null) refuse("miningSteps", `is about ${name("topK")}, which is not given.`)
  if (ohemMinKept !== null && ohemThreshold === null)
    refuse("ohemMinKept", `is about ${name("ohemThreshold")}, which is not given.`)
  if (config.effectiveBeta !== null && classWeights !== "effective")
    refuse("effectiveBeta", `is about ${name("classWeights")} effective, which is not given.`)
  if (config.weightReduction === "pixels") {
    if (classWeights === "none") refuse("weightReduction", `is about ${name("classWeights")}, which is not given.`)
    if (topK !== null)
      refuse("weightReduction", `says what is divided by, and ${name("topK")} divides by its own count.`)
    if (!terms.some(isPixelwise)) refuse("weightReduction", `is about losses of pixels, and ${loss} has none.`)
  }
  if (config.groundTruth === "alpha") refuseOfMattes(config, refuse, name)
  for (const key of ["topK", "ohemThreshold"] as const) {
    if (config[key] === null || terms.some(isPixelwise)) continue
    refuse(key, `chooses among the losses of pixels, and ${loss} has none. There are: cross-entropy, focal.`)
  }
}

/** A matte has its own cross-entropy, of two classes to which a pixel belongs in part. */
function refuseOfMattes(
  { loss, classWeights, labelSmoothing, ohemThreshold }: TrainConfig,
  refuse: (key: keyof TrainConfig, text: string) => void,
  name: NameKey,
): void {
  const mattes = `${name("groundTruth")} alpha`
  if (parseLoss(loss ?? DEFAULT_LOSS).some((term) => term.name !== "cross-entropy"))
    refuse("loss", `is "${loss}", and ${mattes} has no labels to compare with: expected cross-entropy.`)
  if (classWeights !== "none")
    refuse("classWeights", `cannot be had with ${mattes}, where a pixel belongs to both classes: leave it out.`)
  if ((labelSmoothing ?? 0) > 0) refuse("labelSmoothing", `cannot be had with ${mattes}, which is soft already.`)
  if (ohemThreshold !== null)
    refuse("ohemThreshold", `is the probability of a pixel's class, and ${mattes} has none: take ${name("topK")}.`)
}

/** Which pixels count. */
export function miningOf({ topK, miningSteps, ohemThreshold, ohemMinKept }: TrainConfig): Mining | undefined {
  if (topK !== null) return { topK, until: miningSteps ?? 0 }
  if (ohemThreshold !== null) return { threshold: ohemThreshold, minKept: ohemMinKept ?? undefined }
  return undefined
}

/**
 * @param weight [K], the class weights, where there are any; the caller's
 * @param group the processes that share a batch
 */
export function objectiveOf(
  config: ResolvedConfig,
  { weight, group }: { weight?: Tensor | undefined; group?: Group } = {},
): Objective {
  const { weightReduction, labelSmoothing, focalGamma, upsampleLogits, alignCorners, auxWeight } = config
  return createObjective({
    terms: parseLoss(config.loss),
    weight,
    group,
    reduction: weightReduction === "pixels" ? "mean-over-pixels" : "mean",
    labelSmoothing,
    mining: miningOf(config),
    upsampleLogits,
    alignCorners,
    ...(focalGamma !== null && { focalGamma }),
    ...(auxWeight !== null && { auxWeight }),
  })
}

const FILE = "class-weights.json"

/**
 * Those that a run began with, though its data may have changed since; null where it has none.
 * @throws UserError when they are lost
 */
export function keptClassWeights(run: RunFolder, classNames: readonly string[]): number[] | null {
  if (run.config.classWeights === "none") return null
  if (!existsSync(run.file(FILE))) {
    throw new UserError(
      `${run.file(FILE)} is missing: the class weights that the run began with. Put it back, or start a new run.`,
    )
  }
  const { weights } = JSON.parse(readFileSync(run.file(FILE), "utf8")) as { weights: Record<string, number> }
  return classNames.map((name) => weights[name] ?? 1)
}

export function keepClassWeights(
  run: RunFolder,
  { classWeights }: TrainConfig,
  classNames: readonly string[],
  weights: readonly number[],
): void {
  const from = typeof classWeights === "string" ? classWeights : "given"
  run.writeJson(FILE, { from, weights: Object.fromEntries(classNames.map((name, k) => [name, weights[k]])) })
}
