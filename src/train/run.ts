// A whole training run: data opened and checked, model made, trained, evaluated, everything in the run folder.
import { existsSync } from "node:fs"
import { resolve } from "node:path"
import { isDeepStrictEqual } from "node:util"
import { type Census, censusLabels } from "../data/census.ts"
import { checkShares, defaultWorkers, Loader } from "../data/loader.ts"
import { defaultCacheBytes } from "../data/sample-cache.ts"
import { normalizations } from "../data/transforms/index.ts"
import { openVocFolder, type VocFolder } from "../data/voc-folder.ts"
import { UserError } from "../errors.ts"
import { writeFileAtomic } from "../files.ts"
import { estimateEvaluation, evaluate, evaluationLoader } from "../infer/evaluate.ts"
import { classWeightsOf } from "../losses/class-weights.ts"
import { type Scores, summarize } from "../metrics/index.ts"
import { callIn, createModel, deviceOf, type SegmentationModel } from "../models/index.ts"
import { batchNormsOf, foldedBatchNorms, KeptStatistics, measureBatchNorms } from "../nn/index.ts"
import { AveragedState, GradScaler } from "../optim/index.ts"
import {
  alone,
  buildInfo,
  CudaGraph,
  checkDevice,
  checkPrecision,
  fromData,
  type Group,
  isGroupFailure,
  manualSeed,
  type Parameter,
  precisionNotice,
  setCudnnBenchmark,
  setThreads,
} from "../torch/index.ts"
import { classSelection, flagOf, modelOptions, normalizationOf, parseConfig, type TrainConfig } from "./config.ts"
import { coresOf } from "./distributed.ts"
import { number, plural } from "./facts.ts"
import { initializeEncoder, initializeModel, readInitialWeights, unfoldEncoder } from "./initialize.ts"
import { keepClassWeights, keptClassWeights, objectiveOf } from "./objective.ts"
import { initialStatisticsNotice, optimisationNotices, scheduleOf } from "./optimisation.ts"
import { optimizerFor } from "./parameter-groups.ts"
import { applyToLayers, lengthOf, refuseIdleOptions, resolveOpen, settleBatchNorm } from "./prepare.ts"
import { StepProfile } from "./profile.ts"
import { type EvaluationRecord, RunFolder } from "./run-folder.ts"
import { checkAgreement, checkProgress, inStep, ofMain, ownMatters } from "./together.ts"
import { type ProfileSummary, summarizeProfile, traceOf } from "./trace.ts"
import { type Length, Trainer, type TrainerEvents, TrainingError } from "./trainer.ts"
import { trainTransform } from "./transforms.ts"

export interface RunEvents extends Pick<TrainerEvents, "onStep"> {
  /** After each evaluation, with its predictions for a few images, always the same. */
  onEvaluation?: (record: EvaluationRecord, predictions: readonly Prediction[]) => void | Promise<void>
  /** Something about this run that its user should know. */
  onNotice?: (text: string) => void
  /** While weights are downloaded: bytes done and in all. */
  onDownload?: (done: number, total: number | undefined) => void
  /** While labels are counted, before anything else: masks done and in all. */
  onCensus?: (done: number, total: number) => void
  /** While validation images are scored: images done and in all. */
  onEvaluating?: (done: number, total: number) => void
  /** At the end of a run that was profiled: where the time of its steps went, and the file that says more. */
  onProfile?: (summary: ProfileSummary, file: string) => void
  /** Everything is checked and the first step is about to be made. */
  onStart?: (about: RunStart) => void
}

/** Labels of one validation image at its own size, row by row. */
export interface Prediction {
  /** Position in the validation split. */
  readonly index: number
  readonly labels: Uint8Array
}

export interface RunStart {
  readonly run: RunFolder
  readonly trainSet: VocFolder
  readonly valSet: VocFolder
  readonly census: Census
  readonly parameters: number
  /** Those that learn. */
  readonly trainable: number
  readonly length: Length
  /** Steps done before, in a resumed run. */
  readonly step: number
  /** Whether it was complete before: nothing is left to do. */
  readonly isComplete: boolean
  /** That train it together. */
  readonly processes: number
}

export interface RunResult {
  readonly run: RunFolder
  /** Whether the end of the run was reached; false after an abort. */
  readonly completed: boolean
  /** The last evaluation, or null when there was none yet. */
  readonly scores: Scores | null
}

const SHOWN_IMAGES = 6

/** Of a time budget, what measuring batch-norm before one evaluation may take. */
const MEASURING_SHARE = 0.1

interface RunOptions extends RunEvents {
  signal?: AbortSignal
  /** The processes that train together, each of which calls this. Only rank 0 writes. Default: this one alone. */
  group?: Group
  /** Whether some steps are profiled, into profile.json. */
  profile?: boolean
}

/**
 * Trains from the beginning into the folder `out`, which must be empty or absent.
 * @throws UserError for bad data or options, before anything is written
 * @throws TrainingError when the loss is not finite
 */
export async function startRun(config: TrainConfig, out: string, options: RunOptions = {}): Promise<RunResult> {
  const { group = alone } = options
  if (group.isMain) RunFolder.checkFree(out) // before the labels are counted, which may take a while
  const absolute = { ...config, data: resolve(config.data) } // eval works from any folder
  return execute(
    absolute,
    (config, labelMap) => (group.isMain ? RunFolder.create(out, config, labelMap) : RunFolder.follow(out)),
    { resume: false, replan: false },
    options,
  )
}

/**
 * Goes on with a stopped run. The same batches, the same losses: as if it had never stopped (with a time budget the
 * same batches; how many there are depends on the machine).
 * @param changes what may differ from the run's own configuration: length, learning rate, and what is a matter of the machine: data folder, device ...
 */
export async function resumeRun(
  path: string,
  changes: Record<string, unknown> = {},
  options: RunOptions = {},
): Promise<RunResult> {
  const run = RunFolder.open(path, { isWriter: (options.group ?? alone).isMain })
  using _ = run.lock()
  if (!existsSync(run.file("last.safetensors"))) {
    throw new UserError(`The run ${path} ended before anything was saved. Remove the folder and start again.`)
  }
  const changeable: readonly string[] = ["steps", "epochs", "budget", "learningRate", ...ownMatters]
  const refused = Object.keys(changes).filter((key) => !changeable.includes(key))
  if (refused.length > 0) {
    throw new UserError(
      `A resumed run keeps its options; ${refused.map(flagOf).join(", ")} cannot change. These can: ${changeable.map(flagOf).join(", ")}.`,
    )
  }
  const lengths = { steps: null, epochs: null, budget: null }
  const newLength = Object.keys(changes).some((key) => key in lengths)
  const config = parseConfig(
    {
      ...run.config,
      ...(newLength ? lengths : {}),
      ...changes,
      ...(typeof changes.data === "string" && { data: resolve(changes.data) }), // eval works from any folder
    },
    (key) => `"${key}" of ${path}`,
  )
  const differing = (Object.keys(changes) as (keyof TrainConfig)[]).filter(
    (key) => String(config[key]) !== String(run.config[key]),
  )
  if (differing.length > 0) {
    const said = differing.map((key) => `${flagOf(key)} ${config[key]} instead of ${run.config[key] ?? "none"}`)
    options.onNotice?.(`Goes on with ${said.join(", ")}.`)
  }
  return await execute(config, () => run, { resume: true, replan: newLength }, options)
}

async function execute(
  asked: TrainConfig,
  openRun: (config: TrainConfig, labelMap: VocFolder["labelMap"]) => RunFolder,
  { resume, replan }: { resume: boolean; replan: boolean },
  options: RunOptions,
): Promise<RunResult> {
  const { onCensus, onStart, onEvaluating, onEvaluation, onStep, onNotice, onDownload, onProfile } = options
  const { signal, group = alone } = options
  if (asked.threads !== null) setThreads(asked.threads)
  else if (group.size > 1 && !process.env.OMP_NUM_THREADS) setThreads(coresOf(group))
  const { precision } = asked
  const device = asked.device === "cuda" && group.size > 1 ? `cuda:${group.localRank}` : asked.device
  checkDevice(device)
  checkPrecision(precision, device)
  if (asked.cudaGraph && group.size > 1) {
    throw new UserError("cudaGraph is for one process: the exchange of gradients cannot be captured. Make it false.")
  }
  if (asked.cudaGraph && !buildInfo().cudaGraphs) {
    throw new UserError(
      "cudaGraph: the addon was built without CUDA's headers (cuda_runtime_api.h). Install CUDA's toolkit, then run npm run setup.",
    )
  }
  if (device !== "cpu") setCudnnBenchmark(true)
  const selection = classSelection(asked)
  const trainSet = openVocFolder(asked.data, { split: asked.trainSplit, ...selection })
  const valSet = openVocFolder(asked.data, { split: asked.valSplit, ...selection })
  const { labelMap } = trainSet
  const classNames = labelMap.classes.map(({ name }) => name)
  const numClasses = classNames.length
  checkAgreement(group, asked, [...trainSet.ids, ...valSet.ids])

  // First what is quick to fail: the options, before weights are downloaded for them.
  checkShares(asked.batchSize, trainSet.ids.length, group.size)
  const isPretrained = !resume && (asked.weights ?? asked.initFrom) !== null
  if (isPretrained) createModel(asked.model, { ...modelOptions(asked), numClasses }).dispose()
  const initial = isPretrained ? await readInitialWeights(asked, { signal, onProgress: onDownload }) : null
  let config = resolveOpen(asked, initial)
  manualSeed(config.seed)
  using model = createModel(config.model, { ...modelOptions(config), numClasses })
  refuseIdleOptions(config, model)
  if (initial && config.weights !== null) initializeEncoder(model, initial)
  else if (initial && initializeModel(model, initial, classNames, config)) {
    onNotice?.(`The last layer is new, for ${classNames.join(", ")}; all others come from ${initial.path}.`)
  }
  for (const tensor of initial?.tensors.values() ?? []) tensor.dispose()
  const isFolded = initial !== null && model.backbone !== undefined && foldedBatchNorms(model.backbone).length > 0
  config = settleBatchNorm(config, isFolded)
  applyToLayers(config, model)
  if (config.syncBatchNorm) for (const norm of batchNormsOf(model)) norm.group = group
  model.to({ device })

  const total = trainSet.ids.length + valSet.ids.length
  const census = await censusLabels(trainSet, { onProgress: (done) => onCensus?.(done, total) })
  await censusLabels(valSet, { onProgress: (done) => onCensus?.(trainSet.ids.length + done, total) })

  using optimizer = optimizerFor(model, config)
  using average = config.average > 0 ? new AveragedState(model.stateDict(), config.average) : undefined

  const workers = config.workers ?? defaultWorkers(coresOf(group))
  const { batchSize, accumulate, seed, crop: cropSize, alignCorners } = config
  const normalization = normalizations[normalizationOf(config)]
  // Before the workers start: while they do, each image takes ten times as long, and few evaluations would seem affordable.
  const scoringSeconds =
    ofMain(group, await estimateEvaluation(model, valSet, { normalization, inference: { precision } })) / group.size
  await using trainLoader = new Loader(trainSet, {
    batchSize,
    share: group,
    seed,
    workers,
    cacheBytes: Math.floor((config.cache === null ? defaultCacheBytes() : config.cache * 2 ** 20) / group.localSize),
    transform: trainTransform(config, labelMap, census),
    profile: options.profile,
  })
  await using valLoader = evaluationLoader(valSet, { workers, normalization, share: group })

  // On the same crops each time, so that a resumed run repeats them.
  await using measuring = new Loader(trainSet, {
    batchSize,
    share: group,
    seed,
    workers,
    transform: { name: "randomCrop", cropSize, scale: [1, 1], fill: true, alignCorners, flip: 0, ...normalization },
  })
  let measuringBatches = Math.min(config.batchNormBatches, measuring.stepsPerEpoch)
  async function* measuringPasses(signal?: AbortSignal): AsyncGenerator<() => void> {
    if (measuringBatches === 0) return
    for await (const batch of inStep(group, measuring.batches(), { rounds: 0, signal })) {
      const [n, h, w] = batch.shape
      yield () => callIn(precision, model, fromData(batch.images, [n, 3, h, w], { device }))
      if (batch.step === measuringBatches - 1) return
    }
  }

  let predictions: Prediction[] = []
  const shown = evenlySpread(valSet.ids, SHOWN_IMAGES)
  const runEvaluation = async (signal?: AbortSignal): Promise<Scores> => {
    const own: Prediction[] = []
    let done = 0
    await measureBatchNorms(model, measuringPasses(signal), group)
    const rounds = Math.ceil(valLoader.batchesInPass / group.size)
    const matrix = await evaluate(model, inStep(group, valLoader.pass(), { rounds, signal }), numClasses, {
      inference: { precision },
      onBatch: ({ ids }, labels) => {
        const size = labels.length / ids.length
        for (const [k, id] of ids.entries()) {
          const index = shown.get(id)
          if (index !== undefined) own.push({ index, labels: labels.slice(k * size, (k + 1) * size) })
        }
        done += ids.length * group.size
        onEvaluating?.(Math.min(done, valSet.ids.length), valSet.ids.length)
      },
    })
    matrix.counts.set(group.sumNumbers(matrix.counts))
    predictions = group.gather(own).flat()
    predictions.sort((a, b) => a.index - b.index)
    return summarize(matrix, labelMap)
  }
  const length = lengthOf(config, trainLoader.stepsPerEpoch)
  const steps = "steps" in length ? length.steps : undefined
  const schedule = scheduleOf(config, steps)
  const smallest = Math.min(batchSize, trainSet.ids.length) / (config.syncBatchNorm ? 1 : group.size)
  if (smallest === 1 && Math.max(...cropSize) <= model.stride) {
    throw new UserError(
      `Crops of ${cropSize.join("x")} pixels one at a time leave ${config.model} a single pixel at its deepest level, whose batch-norm would never learn its statistics. ` +
        `Use larger crops, or a batch of 2 or more.`,
    )
  }
  if (!isFolded && config.batchNorm === "unfold" && !resume)
    onNotice?.("No batch-norm is folded, so there is nothing to unfold.")
  if (isFolded) {
    const folded = "The weights' batch-norm is folded (weight 1, mean 0, variance 1)"
    if (config.batchNorm === "unfold") {
      const layers = await unfoldEncoder(model, trainLoader, group)
      onNotice?.(`${folded}: ${layers} layers got statistics from training images, so that they can learn.`)
    } else if (config.batchNorm === "train") {
      onNotice?.(
        `${folded}: training with the batch's statistics will destroy what they know. Leave --batch-norm at auto.`,
      )
    } else onNotice?.(`${folded} and stays so.`)
  }
  const passSeconds = config.budget === null ? 0 : await secondsOfPass(model, measuringPasses(), group)
  if (config.budget !== null && passSeconds * measuringBatches > MEASURING_SHARE * config.budget) {
    const wanted = measuringBatches
    measuringBatches = Math.max(1, Math.floor((MEASURING_SHARE * config.budget) / passSeconds))
    onNotice?.(
      `Before an evaluation batch-norm's statistics are measured on ${measuringBatches} of ${wanted} batches: more would take over a tenth of the budget.`,
    )
  }
  const evaluationSeconds = measuringBatches * passSeconds + scoringSeconds
  if (config.budget !== null && evaluationSeconds > config.budget / 2) {
    throw new UserError(
      `One evaluation of the ${valSet.ids.length} images of "${config.valSplit}" takes about ${Math.ceil(evaluationSeconds)} s here, and the budget is ${config.budget} s. ` +
        `Give a longer --budget, a length in --steps, or a shorter list as --val-split.`,
    )
  }
  const countedWeights = classWeightsOf(config.classWeights, census, classNames, {
    beta: config.effectiveBeta ?? undefined,
  })
  const run = openRun(config, labelMap)
  using _ = resume ? undefined : run.lock() // a resumed run is locked from the beginning
  const classWeights = resume ? keptClassWeights(run, classNames) : countedWeights
  if (classWeights && !resume) keepClassWeights(run, config, classNames, classWeights)
  using weight = classWeights ? fromData(Float32Array.from(classWeights), undefined, { device }) : undefined
  if (resume && !isDeepStrictEqual(run.labelMap, labelMap)) {
    throw new UserError(
      `The classes of ${config.data} are not those that ${run.path} was trained on. Resume with the same data set.`,
    )
  }

  if (resume)
    run.writeJson("config.json", config) // with what was changed
  else for (const text of optimisationNotices(config)) onNotice?.(text)
  const slow = precisionNotice(precision, device)
  if (slow !== null) onNotice?.(slow)
  const warnOfStatistics = (steps: number): void => {
    const slowest = Math.min(1, ...batchNormsOf(model).flatMap(({ frozen, momentum }) => (frozen ? [] : [momentum])))
    const text = config.batchNormBatches > 0 ? null : initialStatisticsNotice(slowest, steps * accumulate)
    if (text !== null) onNotice?.(text)
  }
  if (steps !== undefined && !resume) warnOfStatistics(steps)
  const profile = options.profile && group.isMain ? new StepProfile(model, { steps }) : undefined
  const trainer = new Trainer({
    model,
    group,
    seed: config.seed,
    optimizer,
    average,
    objective: objectiveOf(config, { weight, group }),
    precision,
    scaler: precision === "float16" ? new GradScaler() : undefined,
    learningRate: config.learningRate,
    schedule,
    accumulate,
    clip: { norm: config.clipNorm ?? undefined, value: config.clipValue ?? undefined },
    length,
    loader: trainLoader,
    evaluate: runEvaluation,
    evaluationSeconds,
    evaluations: config.evaluations,
    weightNotes: {
      normalization: normalizationOf(config),
      padding: config.padding ?? "symmetric",
      classes: JSON.stringify(classNames),
    },
    run,
    capture: config.cudaGraph ? (work) => new CudaGraph(deviceOf(model), work) : undefined,
    profile,
  })
  if (resume) trainer.resume({ replan })
  profile?.resumeAt(trainer.state.step)
  checkProgress(group, trainer.state.step)
  for (const state of [model, optimizer, average]) group.copyFromMain(state?.stateDict().values() ?? [])
  if (!resume && trainer.evaluationsLeft < config.evaluations) {
    onNotice?.(
      `The budget has room for ${plural(trainer.evaluationsLeft, "evaluation")} of the ${config.evaluations} asked for: one takes about ${number(Math.ceil(evaluationSeconds))} s, and together they get a tenth.`,
    )
  }
  const count = (all: Parameter[]) => all.reduce((sum, parameter) => sum + parameter.numel, 0)
  const parameters = count(model.parameters())
  const trainable = count(model.parameters().filter((parameter) => parameter.requiresGrad))
  onStart?.({
    run,
    trainSet,
    valSet,
    census,
    parameters,
    trainable,
    length,
    step: trainer.state.step,
    isComplete: trainer.isDone,
    processes: group.size,
  })

  try {
    const completed = await trainer.train({
      signal,
      onStep,
      onOverflow: (step, scale) =>
        onNotice?.(
          `Step ${number(step)} was left out: its gradients overflowed float16. From now on the loss is scaled by ${number(scale)}.`,
        ),
      onEvaluation: (record) => onEvaluation?.(record, predictions),
    })
    if (completed && steps === undefined) warnOfStatistics(trainer.state.step) // only now is their number known
    const profiled = profile?.finish()
    if (profiled) {
      run.write("profile.json", (path) => writeFileAtomic(path, JSON.stringify(traceOf(profiled))))
      onProfile?.(summarizeProfile(profiled), run.file("profile.json"))
    } else if (profile) onNotice?.("No step was profiled: the run ended before.")
    const last = run.records().findLast((record) => record.kind === "evaluation")
    return { run, completed, scores: last?.scores ?? null }
  } catch (error) {
    profile?.interrupt()
    // A file found damaged in mid-training: once it is mended or taken off the list, the run can go on from here.
    if (trainer.state.step === 0 && !resume && !(error instanceof TrainingError)) run.remove()
    else if (error instanceof UserError || isGroupFailure(error)) trainer.save()
    throw error
  }
}

/**
 * Seconds that one of the passes takes with which batch-norm is measured, loading included: of two the second, because the first of
 * all takes longer; 0 where there is nothing to measure. The model is then as before.
 */
async function secondsOfPass(
  model: SegmentationModel,
  passes: AsyncIterable<() => void>,
  group: Group,
): Promise<number> {
  let seconds = 0
  async function* two(): AsyncGenerator<() => void> {
    let [start, count] = [performance.now(), 0]
    for await (const pass of passes) {
      yield pass
      const now = performance.now()
      seconds = (now - start) / 1000
      start = now
      if (++count === 2) return
    }
  }
  using kept = new KeptStatistics(model)
  kept.keep()
  await measureBatchNorms(model, two(), group)
  kept.restore()
  return ofMain(group, seconds)
}

/** Some of the names, with their positions. */
function evenlySpread(ids: readonly string[], most: number): Map<string, number> {
  const count = Math.min(most, ids.length)
  return new Map(
    Array.from({ length: count }, (_, k) => {
      const index = Math.floor((k * ids.length) / count)
      return [ids[index]!, index]
    }),
  )
}
