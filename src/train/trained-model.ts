// The model of a finished or stopped run, ready for use.
import { existsSync } from "node:fs"
import { UserError } from "../errors.ts"
import { createModel, type SegmentationModel } from "../models/index.ts"
import { loadModelState, loadWeights } from "./checkpoint.ts"
import type { RunFolder } from "./run-folder.ts"

/**
 * The best weights of a run, in eval mode; the last ones when it was stopped before its first evaluation.
 * @returns the model, owned by the caller, and the file its weights come from
 */
export function trainedModel(run: RunFolder): { model: SegmentationModel; weights: string } {
  const [best, last] = [run.file("best.safetensors"), run.file("last.safetensors")]
  if (!existsSync(best) && !existsSync(last))
    throw new UserError(`The run ${run.path} has no weights yet: expected ${best}. Train it first, or resume it.`)
  const model = createModel(run.config.model, { ...run.config, numClasses: run.labelMap.classes.length }).eval()
  if (existsSync(best)) loadWeights(best, model)
  else loadModelState(last, model)
  return { model, weights: existsSync(best) ? best : last }
}
