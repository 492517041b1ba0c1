// From a configuration to its explanation: its model is made, its data looked at where that is there. Nothing is trained,
// downloaded or written.
import { existsSync } from "node:fs"
import { censusLabels } from "../data/census.ts"
import { Loader } from "../data/loader.ts"
import { openVocFolder, type VocFolder } from "../data/voc-folder.ts"
import { attempt, UserError } from "../errors.ts"
import { createModel, type SegmentationModel } from "../models/index.ts"
import { foldedBatchNorms } from "../nn/index.ts"
import { manualSeed, tidy } from "../torch/index.ts"
import { preprocessingOf } from "../weights/index.ts"
import { classSelection, modelOptions, type TrainConfig } from "./config.ts"
import { type Explanation, explain } from "./explain.ts"
import {
  type InitialWeights,
  initializeEncoder,
  initializeModel,
  publishedInitialWeights,
  readInitialWeights,
} from "./initialize.ts"
import { keptClassWeights } from "./objective.ts"
import { positionsInSteps } from "./optimisation.ts"
import { applyToLayers, lengthOf, refuseIdleOptions, resolveOpen, settleBatchNorm } from "./prepare.ts"
import type { RunFolder } from "./run-folder.ts"

/** VOC's, with background. */
const DEFAULT_CLASSES = 21

export interface ExplainOptions {
  /** Whether `data` of the configuration is a data set; without one, classes and the length of an epoch are not known. */
  readonly hasData?: boolean
  /** The run whose configuration this is: its classes and their weights are known, though its data may be gone. */
  readonly run?: RunFolder
  /** Whether each parameter is listed. */
  readonly parameters?: boolean
  /** While labels are counted, which only classes by their frequency need: masks done and in all. */
  readonly onCensus?: (done: number, total: number) => void
}

/** @throws UserError for what training would refuse before its first step */
export async function explainConfig(asked: TrainConfig, options: ExplainOptions = {}): Promise<Explanation> {
  const { hasData = true, run, parameters = false, onCensus = () => {} } = options
  const isThere = hasData && (!run || existsSync(asked.data))
  const open = () => openVocFolder(asked.data, { split: asked.trainSplit, ...classSelection(asked) })
  const trainSet = !isThere ? null : run ? attempt(open, () => null) : open() // of a run's data a part may be gone
  const labelMap = run?.labelMap ?? trainSet?.labelMap ?? null
  const classes = labelMap?.classes.map(({ name }) => name) ?? countOf(asked)
  const numClasses = typeof classes === "number" ? classes : classes.length

  const initial = run ? null : await lookAtWeights(asked)
  try {
    const resolved = resolveOpen(asked, initial)
    manualSeed(resolved.seed)
    using model = tidy(() => createModel(resolved.model, { ...modelOptions(resolved), numClasses }))
    refuseIdleOptions(resolved, model)
    const isFolded = initial?.tensors !== undefined && isFoldedWith(model, initial as InitialWeights, resolved, classes)
    const config = settleBatchNorm(resolved, isFolded)
    applyToLayers(config, model)

    const needsCensus =
      (typeof config.classWeights === "string" && config.classWeights !== "none") || config.cropClasses
    const census =
      trainSet && needsCensus
        ? await censusLabels(trainSet, { onProgress: (done) => onCensus(done, trainSet.ids.length) })
        : null
    const stepsPerEpoch = trainSet && (await batchesOf(trainSet, config.batchSize))
    const length = config.epochs !== null && stepsPerEpoch === null ? null : lengthOf(config, stepsPerEpoch ?? 1)
    if (length === null) refuseSteps(config)
    return explain(config, {
      model,
      classes,
      length,
      data: trainSet && labelMap && { images: trainSet.ids.length, stepsPerEpoch: stepsPerEpoch!, labelMap, census },
      classWeights: run && Array.isArray(classes) ? keptClassWeights(run, classes) : null,
      parameters,
    })
  } finally {
    for (const tensor of initial?.tensors?.values() ?? []) tensor.dispose()
  }
}

/** How many classes there are, as far as the configuration alone says. */
function countOf({ classes, classWeights, groundTruth }: TrainConfig): number {
  if (groundTruth === "alpha") return 2
  return classes?.length ?? (Array.isArray(classWeights) ? classWeights.length : DEFAULT_CLASSES)
}

/** What a run would begin with: files are read, and of published weights, which may not be here yet, what is known of them. */
async function lookAtWeights(
  config: TrainConfig,
): Promise<(Partial<InitialWeights> & Pick<InitialWeights, "preprocessing">) | null> {
  const published = publishedInitialWeights(config)
  return published ? { preprocessing: preprocessingOf({}, published) } : readInitialWeights(config)
}

/** Loads the weights, and says whether their batch-norm is folded. */
function isFoldedWith(
  model: SegmentationModel,
  initial: InitialWeights,
  config: TrainConfig,
  classes: readonly string[] | number,
): boolean {
  if (config.weights !== null) initializeEncoder(model, initial)
  else initializeModel(model, initial, typeof classes === "number" ? (initial.classNames ?? []) : classes, config)
  return model.backbone !== undefined && foldedBatchNorms(model.backbone).length > 0
}

async function batchesOf(trainSet: VocFolder, batchSize: number): Promise<number> {
  await using loader = new Loader(trainSet, { batchSize, workers: 0, transform: { name: "whole" } })
  return loader.stepsPerEpoch
}

/** @throws UserError for places in steps where nobody knows how many there are */
function refuseSteps(config: TrainConfig): void {
  for (const [key, counts] of positionsInSteps(config)) {
    throw new UserError(
      `${key} is ${counts} steps, but how many there are in ${config.epochs} epochs depends on the data: give data, or a length in steps.`,
    )
  }
}
