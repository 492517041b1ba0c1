// The model of a finished or stopped run, ready for use.
import { existsSync } from "node:fs"
import { type Normalization, normalizations } from "../data/transforms.ts"
import { UserError } from "../errors.ts"
import { createModel, preferredMemoryFormat, type SegmentationModel } from "../models/index.ts"
import { loadModelState, loadWeights } from "./checkpoint.ts"
import { modelOptions } from "./config.ts"
import type { RunFolder } from "./run-folder.ts"

/**
 * The best weights of a run, in eval mode; the last ones when it was stopped before its first evaluation.
 * @returns the model, owned by the caller, the file its weights come from, and how its images are normalised
 */
export function trainedModel(run: RunFolder): {
  model: SegmentationModel
  weights: string
  normalization: Normalization
} {
  const [best, last] = [run.file("best.safetensors"), run.file("last.safetensors")]
  if (!existsSync(best) && !existsSync(last))
    throw new UserError(`The run ${run.path} has no weights yet: expected ${best}. Train it first, or resume it.`)
  const { config, labelMap } = run
  const model = createModel(config.model, { ...modelOptions(config), numClasses: labelMap.classes.length }).eval()
  if (existsSync(best)) loadWeights(best, model)
  else loadModelState(last, model)
  model.dropAuxiliary?.()
  model.to({ memoryFormat: preferredMemoryFormat(model) })
  const normalization = normalizations[config.normalization ?? "imagenet"]
  return { model, weights: existsSync(best) ? best : last, normalization }
}
