// Two kinds of files. best.safetensors holds a model's weights under their plain names: any tool can load it.
// last.safetensors holds all that the next step depends on, so that a resumed run goes on as if it had never stopped.
import type { Batch } from "../data/batch.ts"
import { UserError } from "../errors.ts"
import { deviceOf } from "../models/index.ts"
import type { AnyModule } from "../nn/index.ts"
import type { AveragedState, GradScaler, GradScalerState, Optimizer } from "../optim/index.ts"
import { fromData, rngState, setRngState, type Tensor, tidy } from "../torch/index.ts"
import { loadSafetensors, saveSafetensors } from "../torch/safetensors.ts"

/** Where a run stands: what is not a tensor. */
export interface Progress {
  /** Optimizer steps done. */
  step: number
  /** Seconds spent in steps, waiting for images included. */
  trainSeconds: number
  evaluationSeconds: number
  /** Best mean IoU so far, or null before the first evaluation. */
  best: number | null
  /** Evaluations done, of those that the run's length plans. */
  evaluations: number
  /** The fraction of the run at which the next one is due; above 1 when none is. */
  nextEvaluation: number
}

/** What training changes. */
export interface TrainingState {
  readonly model: AnyModule
  readonly optimizer: Optimizer
  /** Averages of the model's weights, where evaluation uses them. */
  readonly average?: AveragedState | undefined
  readonly scaler?: GradScaler | undefined
}

export function saveState(
  path: string,
  { model, optimizer, average, scaler }: TrainingState,
  progress: Progress,
): void {
  tidy(() => {
    const tensors = new Map<string, Tensor>([["rng", rngState(deviceOf(model))]])
    for (const [name, tensor] of model.stateDict()) tensors.set(`model.${name}`, tensor)
    for (const [name, tensor] of optimizer.stateDict()) tensors.set(`optimizer.${name}`, tensor)
    for (const [name, tensor] of average?.stateDict() ?? []) tensors.set(`average.${name}`, tensor)
    saveSafetensors(path, tensors, {
      progress: JSON.stringify(progress),
      ...(scaler && { scaler: JSON.stringify(scaler.state) }),
    })
  })
}

/** @throws UserError when the file is damaged or belongs to another model or optimizer */
export function loadState(path: string, { model, optimizer, average, scaler }: TrainingState): Progress {
  return tidy(() => {
    const { tensors, metadata } = loadSafetensors(path)
    const rng = tensors.get("rng")
    if (!rng || !metadata.progress)
      throw new UserError(`${path} cannot be resumed: it holds weights only. Give a run's folder.`)
    model.loadStateDict(part(tensors, "model."))
    optimizer.loadStateDict(part(tensors, "optimizer."))
    const averages = part(tensors, "average.")
    average?.loadStateDict(averages.size > 0 ? averages : part(tensors, "model.")) // a run from before there were any
    if (scaler && metadata.scaler) scaler.state = JSON.parse(metadata.scaler) as GradScalerState
    setRngState(rng, deviceOf(model))
    return JSON.parse(metadata.progress) as Progress
  })
}

/** The weights of a file of either kind, averaged ones if it has them, under the model's names. The tensors are the caller's. */
export function readWeights(path: string): Map<string, Tensor> {
  const { tensors, metadata } = loadSafetensors(path)
  if (!metadata.progress) return tensors
  const prefix = [...tensors.keys()].some((name) => name.startsWith("average.")) ? "average." : "model."
  const weights = part(tensors, prefix)
  for (const [name, tensor] of tensors) if (!name.startsWith(prefix)) tensor.dispose()
  return weights
}

export function saveWeights(path: string, model: AnyModule, metadata: Record<string, string>): void {
  saveSafetensors(path, model.stateDict(), metadata)
}

/** A batch as the model got it: images [N, 3, H, W], labels (and alpha, of mattes) [N, H, W], and whose they are. */
export function saveBatch(path: string, { images, masks, alpha, shape: [n, h, w], ids, step, epoch }: Batch): void {
  tidy(() => {
    const tensors = new Map([
      ["images", fromData(images, [n, 3, h, w])],
      ["labels", fromData(masks, [n, h, w])],
    ])
    if (alpha) tensors.set("alpha", fromData(alpha, [n, h, w]))
    saveSafetensors(path, tensors, { ids: JSON.stringify(ids), batch: String(step), epoch: String(epoch) })
  })
}

function part(tensors: ReadonlyMap<string, Tensor>, prefix: string): Map<string, Tensor> {
  return new Map(
    [...tensors].flatMap(([name, tensor]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), tensor]] : [])),
  )
}
