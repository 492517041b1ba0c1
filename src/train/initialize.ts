// What a run begins with: pretrained weights of the encoder (--weights), or of the whole model (--init-from). Unlike
// --resume, both start a new run: new optimizer, new schedule, and other classes if wanted.
import { existsSync } from "node:fs"
import { join } from "node:path"
import type { Loader } from "../data/loader.ts"
import { UserError } from "../errors.ts"
import { encoderNameOf, encoderState, type SegmentationModel } from "../models/index.ts"
import { BatchNorm2d, foldedBatchNorms, unfoldBatchNorms } from "../nn/index.ts"
import { fromData, loadWeightFile, type Tensor, tidy } from "../torch/index.ts"
import { type FetchOptions, preprocessingOf, resolveWeights, type WeightPreprocessing } from "../weights/index.ts"
import type { TrainConfig } from "./config.ts"
import { RunFolder } from "./run-folder.ts"

/** A weight file and what it expects of its input. */
export interface InitialWeights {
  readonly path: string
  readonly preprocessing: WeightPreprocessing
}

/** Finds the file, in the cache or on the network if need be; null when a run begins with random weights. */
export async function findInitialWeights(
  { model, encoder, weights, initFrom }: Pick<TrainConfig, "model" | "encoder" | "weights" | "initFrom">,
  options: FetchOptions = {},
): Promise<InitialWeights | null> {
  const name = weights ?? initFrom
  if (name === null) return null
  if (weights !== null && encoderNameOf(model, encoder) === null) {
    throw new UserError(
      `The model ${model} has layers of its own, not an encoder that pretrained weights could go into. Choose one with --encoder.`,
    )
  }
  if (initFrom !== null && existsSync(join(initFrom, "config.json"))) {
    const run = RunFolder.open(initFrom)
    const path = run.file("best.safetensors")
    if (!existsSync(path)) {
      throw new UserError(`The run ${initFrom} has no best.safetensors yet. Train it until its first evaluation.`)
    }
    const { normalization, padding } = run.config
    return { path, preprocessing: { normalization: normalization ?? "imagenet", padding: padding ?? undefined } }
  }
  const { path, entry } = await resolveWeights(name, options)
  const { metadata } = tidy(() => loadWeightFile(path))
  return { path, preprocessing: preprocessingOf(metadata, entry) }
}

/**
 * Loads an ImageNet classifier or a segmentation model into a model's encoder; what else it holds is left out.
 * @throws UserError when the model has no encoder, or another one
 */
export function initializeEncoder(model: SegmentationModel, path: string): void {
  const { backbone } = model
  if (!backbone) throw new UserError(`${model.constructor.name} has no encoder that ${path} could go into.`)
  load(path, (tensors) => backbone.loadStateDict(encoderState(tensors)))
}

/**
 * Loads a whole model. Its last layer stays new where it has another number of classes, or if that is wanted; an auxiliary
 * head that the model does not have is left out.
 * @returns whether the last layer is new
 * @throws UserError when anything else does not fit
 */
export function initializeModel(model: SegmentationModel, path: string, { initializeLastLayer = true } = {}): boolean {
  let isNew = false
  load(path, (tensors) => {
    const own = model.stateDict()
    const state = new Map([...tensors].filter(([name]) => own.has(name) || !name.startsWith("aux_classifier.")))
    for (const [name, tensor] of own) {
      if (!model.logitLayers.some((layer) => name.startsWith(`${layer}.`))) continue
      const given = state.get(name)
      if (given && initializeLastLayer && String(given.shape) === String(tensor.shape)) continue
      if (!given && initializeLastLayer) continue // a model of another kind: the error says so
      state.set(name, tensor)
      isNew = true
    }
    model.loadStateDict(state)
  })
  return isNew
}

function load(path: string, use: (tensors: Map<string, Tensor>) => void): void {
  tidy(() => {
    try {
      use(loadWeightFile(path).tensors)
    } catch (cause) {
      if (cause instanceof UserError && !cause.message.includes(path))
        throw new UserError(`${path}: ${cause.message}`, { cause })
      throw cause
    }
  })
}

/** The encoder's batch-norm uses its running statistics in training too. */
export function freezeBatchNorm({ backbone }: SegmentationModel): void {
  for (const [, module] of backbone?.namedModules() ?? []) if (module instanceof BatchNorm2d) module.frozen = true
}

/**
 * The encoder's layers up to its last map of at most `stride` keep their weights and statistics. What they compute is
 * the most general of all, and the most expensive: their gradients need about half of a step's time.
 */
export function freezeLayers({ backbone }: SegmentationModel, stride: number): void {
  const map = backbone?.strides.findLastIndex((s) => s <= stride) ?? -1
  for (const layer of map < 0 ? [] : backbone!.layersOf(map)) {
    layer.requiresGrad_(false)
    for (const [, module] of layer.namedModules()) if (module instanceof BatchNorm2d) module.frozen = true
  }
}

const UNFOLD_BATCHES = 8

/** Gives the encoder's folded batch-norm statistics from training images. @returns how many layers were folded */
export async function unfoldEncoder({ backbone }: SegmentationModel, loader: Loader): Promise<number> {
  const folded = backbone ? foldedBatchNorms(backbone) : []
  const images: Tensor[] = []
  for await (const batch of loader.batches()) {
    const [n, h, w] = batch.shape
    images.push(fromData(batch.images, [n, 3, h, w]))
    if (images.length === UNFOLD_BATCHES) break
  }
  let next = 0
  unfoldBatchNorms(folded, () => backbone!.call(images[next++]!), images.length)
  for (const image of images) image.dispose()
  return folded.length
}
