// What a run begins with: pretrained weights of the encoder (--weights), or of the whole model (--init-from). Unlike
// --resume, both start a new run: new optimizer, new schedule, and other classes if wanted.
import { existsSync } from "node:fs"
import { join } from "node:path"
import type { Loader } from "../data/loader.ts"
import { UserError } from "../errors.ts"
import { deviceOf, encoderNameOf, encoderState, findEncoder, type SegmentationModel } from "../models/index.ts"
import { batchNormsOf, unfoldBatchNorms } from "../nn/index.ts"
import { fromData, type Group, loadWeightFile, type Tensor } from "../torch/index.ts"
import {
  type FetchOptions,
  findWeights,
  preprocessingOf,
  resolveWeights,
  type WeightPreprocessing,
  type Weights,
} from "../weights/index.ts"
import { normalizationOf, type TrainConfig } from "./config.ts"
import { RunFolder } from "./run-folder.ts"
import { modelWeights } from "./trained-model.ts"

/** Weights that were read, and what is known about them. The tensors are the caller's. */
export interface InitialWeights {
  readonly path: string
  readonly tensors: Map<string, Tensor>
  readonly preprocessing: WeightPreprocessing
  /** What a whole model's logits stand for, where that is known. */
  readonly classNames?: readonly string[]
}

/**
 * Reads what --weights or --init-from names, from the network if need be; null when a run begins with random weights.
 * @throws UserError when it cannot be had, or belongs to another model
 */
export async function readInitialWeights(
  config: TrainConfig,
  options: FetchOptions = {},
): Promise<InitialWeights | null> {
  const { weights, initFrom } = config
  const name = weights ?? initFrom
  if (name === null) return null
  const isRun = existsSync(join(name, "config.json"))
  if (weights !== null && isRun)
    throw new UserError(`${name} is a run. To begin with its weights: --init-from ${name}.`)
  publishedInitialWeights(config) // those that do not fit are not downloaded
  if (isRun) return readRun(RunFolder.open(name), config)
  const { path, entry } = await resolveWeights(name, options)
  const { tensors, metadata } = loadWeightFile(path)
  const classNames = entry?.classNames ?? classNamesIn(metadata)
  return { path, tensors, preprocessing: preprocessingOf(metadata, entry), classNames }
}

/**
 * What is known, without reading them, of the published weights that --weights or --init-from names; undefined where it names
 * none, or a file or a run.
 * @throws UserError when they belong to another model, or the model has nothing that weights of an encoder could go into
 */
export function publishedInitialWeights({ model, weights, initFrom, ...config }: TrainConfig): Weights | undefined {
  const encoder = encoderNameOf(model, config.encoder)
  if (weights !== null && encoder === null) {
    throw new UserError(
      `The model ${model} has layers of its own, not an encoder that pretrained weights could go into. Choose one with --encoder.`,
    )
  }
  const name = weights ?? initFrom
  const published = name === null || existsSync(name) ? undefined : findWeights(name)
  if (published?.kind === "classification") {
    if (initFrom !== null) {
      throw new UserError(`${name} is an ImageNet classifier, which an encoder can begin with: --weights ${name}.`)
    }
    if (encoder !== null && findEncoder(encoder).base !== published.model) {
      throw new UserError(`The weights ${name} are for the encoder ${published.model}; this model has ${encoder}.`)
    }
  }
  return published
}

function readRun(run: RunFolder, { model, encoder }: TrainConfig): InitialWeights {
  const { config, labelMap } = run
  const describe = (m: string, e: string | null) => (e === null ? m : `${m} on ${e}`)
  const [its, wanted] = [config, { model, encoder }].map((c) => describe(c.model, encoderNameOf(c.model, c.encoder)))
  if (its !== wanted) {
    throw new UserError(
      `The run ${run.path} trained ${its}, this one is to train ${wanted}. To begin with its weights, choose its --model and --encoder.`,
    )
  }
  return {
    ...modelWeights(run),
    preprocessing: { normalization: normalizationOf(config), padding: config.padding ?? undefined },
    classNames: labelMap.classes.map(({ name }) => name),
  }
}

/** Our own weights say which classes they know. */
function classNamesIn({ classes = "" }: Readonly<Record<string, string>>): string[] | undefined {
  try {
    const names: unknown = JSON.parse(classes)
    return Array.isArray(names) ? names.map(String) : undefined
  } catch {
    return undefined // another tool's note
  }
}

/**
 * Loads an ImageNet classifier or a segmentation model into a model's encoder; what else it holds is left out.
 * @throws UserError when they do not fit
 */
export function initializeEncoder({ backbone }: SegmentationModel, { path, tensors }: InitialWeights): void {
  loading(path, () => backbone!.loadStateDict(encoderState(tensors)))
}

/**
 * Loads a whole model. Its last layer stays new where it has other classes, or if that is wanted; an auxiliary head that
 * the model does not have is left out.
 * @param classes names of the classes that the model is to learn
 * @returns whether the last layer is new
 * @throws UserError when anything else does not fit
 */
export function initializeModel(
  model: SegmentationModel,
  { path, tensors, classNames }: Omit<InitialWeights, "preprocessing">,
  classes: readonly string[],
  { initializeLastLayer = true } = {},
): boolean {
  const isOther = classNames !== undefined && String(classNames) !== String(classes)
  const own = model.stateDict()
  const state = new Map([...tensors].filter(([name]) => own.has(name) || !name.startsWith("aux_classifier.")))
  let isNew = false
  for (const [name, tensor] of own) {
    if (!model.logitLayers.some((layer) => name.startsWith(`${layer}.`))) continue
    const given = state.get(name)
    if (initializeLastLayer && !given) continue // a model of another kind: the error says so
    if (initializeLastLayer && !isOther && String(given?.shape) === String(tensor.shape)) continue
    state.set(name, tensor)
    isNew = true
  }
  loading(path, () => model.loadStateDict(state))
  return isNew
}

function loading(path: string, load: () => void): void {
  try {
    load()
  } catch (cause) {
    throw cause instanceof UserError ? new UserError(`${path}: ${cause.message}`, { cause }) : cause
  }
}

// --- which layers learn, and how ----------------------------------------------------------------------------------------

/** The encoder's batch-norm uses its running statistics in training too. */
export function freezeBatchNorm({ backbone }: SegmentationModel): void {
  for (const norm of backbone ? batchNormsOf(backbone) : []) norm.frozen = true
}

/**
 * The encoder's layers up to its first map of this stride keep their weights and statistics. What they compute is the most
 * general of all, and on large maps: without their gradients a step of LR-ASPP on mobilenet_v2_0.35 takes 0.8 of its time.
 * @throws UserError when there is no such map
 */
export function freezeLayers({ backbone }: SegmentationModel, stride: number): void {
  const map = backbone?.strides.indexOf(stride) ?? -1
  if (!backbone || map < 0) {
    const strides = [...new Set(backbone?.strides)].join(", ")
    throw new UserError(`freeze is ${stride}, but the encoder has maps at strides ${strides || "none"} only.`)
  }
  for (const layer of backbone.layersOf(map)) {
    layer.requiresGrad_(false)
    for (const norm of batchNormsOf(layer)) norm.frozen = true
  }
}

const UNFOLD_BATCHES = 8

/** Gives the encoder's folded batch-norm statistics from training images. @returns how many layers were folded */
export async function unfoldEncoder(model: SegmentationModel, loader: Loader, group: Group): Promise<number> {
  const { backbone } = model
  if (!backbone) return 0
  const device = deviceOf(model)
  const images: Tensor[] = []
  try {
    for await (const batch of loader.batches()) {
      const [n, h, w] = batch.shape
      images.push(fromData(batch.images, [n, 3, h, w], { device }))
      if (images.length === UNFOLD_BATCHES) break
    }
    let next = 0
    return unfoldBatchNorms(backbone, () => backbone.call(images[next++]!), images.length, group)
  } finally {
    for (const image of images) image.dispose()
  }
}
