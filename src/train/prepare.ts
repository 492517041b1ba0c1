// What a configuration becomes before its first step: what it leaves open is decided, its model is made ready, its length is
// counted. Training does this, and whatever explains a configuration.
import { UserError } from "../errors.ts"
import { encoderNameOf, findEncoder, type SegmentationModel } from "../models/index.ts"
import { batchNormsOf } from "../nn/index.ts"
import type { TrainConfig } from "./config.ts"
import { freezeBatchNorm, freezeLayers, type InitialWeights } from "./initialize.ts"
import { DEFAULT_LOSS } from "./objective.ts"
import { warmupOf } from "./optimisation.ts"
import type { Length } from "./trainer.ts"

/** A configuration that leaves nothing open but the number of threads, of workers, and the cache. */
export type ResolvedConfig = TrainConfig & {
  readonly loss: string
  readonly labelSmoothing: number
  readonly learningRate: number
  readonly brightness: number
  readonly contrast: number
  readonly saturation: number
}

/** What the user leaves open is decided by the weights, and kept in the run's configuration. */
export function resolveOpen(
  config: TrainConfig,
  initial: Pick<InitialWeights, "preprocessing"> | null,
): ResolvedConfig {
  const isFineTuning = initial !== null && config.weights !== null
  const { normalization = "imagenet", padding = "symmetric" } = initial?.preprocessing ?? {}
  const encoder = encoderNameOf(config.model, config.encoder)
  const hasPadding = encoder !== null && findEncoder(encoder).entry.takes.includes("padding")
  const jitter = isFineTuning ? 0.3 : 0
  const isRegularised = isFineTuning && config.loss === null && config.groundTruth === "labels"
  return {
    ...config,
    normalization: config.normalization ?? normalization,
    padding: config.padding ?? (hasPadding ? padding : null),
    // A new head has everything to learn; what the encoder knows must not be shaken off meanwhile.
    learningRate: config.learningRate ?? (isFineTuning ? 2e-4 : 1e-3),
    headRate: config.headRate ?? (isFineTuning && config.lastLayerMultiplier === 1 ? 10 : null),
    warmup: warmupOf(config),
    freeze: config.freeze ?? (isFineTuning ? 4 : 0),
    // Data sets that are small enough to need pretrained weights are learned by heart in minutes.
    loss: config.loss ?? (isRegularised ? "cross-entropy + jaccard" : DEFAULT_LOSS),
    labelSmoothing: config.labelSmoothing ?? (isRegularised ? 0.05 : 0),
    brightness: config.brightness ?? jitter,
    contrast: config.contrast ?? jitter,
    saturation: config.saturation ?? jitter,
  }
}

/** What "auto" means once it is known whether the weights' batch-norm is folded. */
export const settleBatchNorm = (config: ResolvedConfig, isFolded: boolean): ResolvedConfig =>
  config.batchNorm === "auto" ? { ...config, batchNorm: isFolded ? "unfold" : "train" } : config

/** @throws UserError for an option that would do nothing */
export function refuseIdleOptions(config: TrainConfig, model: SegmentationModel): void {
  const { freeze, batchNorm, headRate, auxWeight, auxRate, lastLayerMultiplier, lastLayers, layerDecay } = config
  const given = {
    layerDecay: layerDecay !== 1,
    freeze: (freeze ?? 0) > 0,
    batchNorm: batchNorm === "frozen" || batchNorm === "unfold",
    headRate: headRate !== null,
  }
  const idle = Object.entries(given).flatMap(([name, isGiven]) => (isGiven && !model.backbone ? [name] : []))
  if (lastLayerMultiplier !== 1 && lastLayers !== "logits" && !model.backbone) {
    throw new UserError(
      "lastLayerMultiplier: this model has no encoder, so all its layers would be last ones. Choose logits as lastLayers.",
    )
  }
  if (idle.length > 0) throw new UserError(`${idle.join(", ")}: this model has no encoder, so that would do nothing.`)
  if (!config.upsampleLogits && model.upsampleLogits === undefined) {
    throw new UserError(
      "upsampleLogits: this model's logits are as large as the image, so there is nothing to leave out.",
    )
  }
  const hasAux = [...model.stateDict().keys()].some((name) => name.startsWith("aux_classifier."))
  for (const [name, value] of Object.entries({ auxWeight, auxRate })) {
    if (value !== null && !hasAux)
      throw new UserError(`${name}: this model has no auxiliary head, so that would do nothing.`)
  }
}

/**
 * Decides which layers of a model learn, and how its batch-norm does.
 * @throws UserError when the encoder has no map at the stride that is frozen, or no batch-norm is left whose momentum was given
 */
export function applyToLayers(config: TrainConfig, model: SegmentationModel): void {
  if (config.batchNorm === "frozen") freezeBatchNorm(model)
  if (config.freeze) freezeLayers(model, config.freeze)
  if (config.batchNormMomentum === null) return
  const norms = batchNormsOf(model).filter(({ frozen }) => !frozen)
  // A protocol speaks of models that have batch-norm; to others it says nothing.
  if (norms.length === 0 && config.protocol === null)
    throw new UserError("batchNormMomentum: no batch-norm learns here, so that would do nothing.")
  for (const norm of norms) norm.momentum = config.batchNormMomentum
}

/** @param stepsPerEpoch batches in a pass over the training split */
export function lengthOf({ budget, steps, epochs, accumulate }: TrainConfig, stepsPerEpoch: number): Length {
  if (budget !== null) return { seconds: budget }
  return { steps: steps ?? Math.max(1, Math.round(((epochs ?? 1) * stepsPerEpoch) / accumulate)) }
}
