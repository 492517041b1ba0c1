// The model of a finished or stopped run, ready for use.
import { existsSync } from "node:fs"
import { type Normalization, normalizations } from "../data/transforms/index.ts"
import { UserError } from "../errors.ts"
import { createModel, type SegmentationModel } from "../models/index.ts"
import { checkDevice, type Precision, type Tensor, tidy } from "../torch/index.ts"
import { readWeights } from "./checkpoint.ts"
import { modelOptions, normalizationOf } from "./config.ts"
import type { RunFolder } from "./run-folder.ts"

/** The file of a run's best weights, or of its last ones when it was stopped before its first evaluation; undefined: neither. */
export const weightsFile = (run: RunFolder): string | undefined =>
  [run.file("best.safetensors"), run.file("last.safetensors")].find((file) => existsSync(file))

/**
 * The best weights of a run; the last ones when it was stopped before its first evaluation.
 * @returns the tensors, owned by the caller, and the file they come from
 */
export function modelWeights(run: RunFolder): { path: string; tensors: Map<string, Tensor> } {
  const path = weightsFile(run)
  if (path === undefined) {
    throw new UserError(
      `The run ${run.path} has no weights yet: expected ${run.file("best.safetensors")}. Train it first, or resume it.`,
    )
  }
  return { path, tensors: readWeights(path) }
}

/**
 * The model of a run with its best weights, in eval mode and without what only training needs.
 * @param device where it is to compute: "cpu", "cuda", "cuda:1"
 * @returns the model, owned by the caller, the file its weights come from, how its images are normalised, and the precision that
 * it was trained in: on the CPU float32 instead of float16, which that does not compute
 * @throws UserError when there is no such device
 */
export function trainedModel(
  run: RunFolder,
  { device = "cpu" } = {},
): {
  model: SegmentationModel
  weights: string
  normalization: Normalization
  precision: Precision
} {
  checkDevice(device)
  return tidy(() => {
    const { path, tensors } = modelWeights(run)
    const { config, labelMap } = run
    const model = createModel(config.model, { ...modelOptions(config), numClasses: labelMap.classes.length }).eval()
    model.loadStateDict(tensors)
    model.dropAuxiliary?.()
    model.to({ device })
    const precision = config.precision === "float16" && device === "cpu" ? "float32" : config.precision
    return { model, weights: path, normalization: normalizations[normalizationOf(config)], precision }
  })
}
