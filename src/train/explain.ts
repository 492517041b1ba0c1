// What a configuration really does, in facts: each with a name, a value for machines and a sentence for people. Rates, factors,
// shares and pad values come from the functions that training itself uses, so that they cannot say anything else. Two
// explanations are compared fact by fact.

import { isDeepStrictEqual } from "node:util"
import { groupBy } from "../arrays.ts"
import type { Census } from "../data/census.ts"
import type { LabelMap } from "../data/label-map.ts"
import { minedShare } from "../losses/mining.ts"
import { encoderNameOf, type SegmentationModel } from "../models/index.ts"
import { batchNormsOf } from "../nn/index.ts"
import { type Moment, type ParameterSettings, slowSteps } from "../optim/index.ts"
import type { Precision } from "../torch/index.ts"
import { configFields, modelOptions, type TrainConfig } from "./config.ts"
import { lossFacts } from "./explain-loss.ts"
import { preprocessingFacts } from "./explain-preprocessing.ts"
import { type Fact, fact, firstStepAt, momentAt, number, plural, round } from "./facts.ts"
import { miningOf } from "./objective.ts"
import {
  initialShare,
  initialStatisticsNotice,
  momentumOf,
  optimisationNotices,
  scheduleKeys,
  scheduleOf,
} from "./optimisation.ts"
import { optimizerFor, type ParameterPlace, parameterPlaces } from "./parameter-groups.ts"
import type { ResolvedConfig } from "./prepare.ts"
import type { Length } from "./trainer.ts"

export interface Section {
  readonly title: string
  readonly facts: readonly Fact[]
}

/** The learning rate, and the share of the pixels that count, when a step begins. */
export interface CurvePoint {
  /** Steps done; of a time budget, whose steps are not known, thousandths of the run. */
  readonly step: number
  readonly rate: number
  readonly minedShare: number | null
}

export interface Explanation {
  readonly config: ResolvedConfig
  readonly sections: readonly Section[]
  readonly curve: readonly CurvePoint[]
  /** Optimizer steps, where they are known. */
  readonly steps: number | null
  /** What its user should know. */
  readonly notices: readonly string[]
}

/** What is known besides the configuration. */
export interface Known {
  /** As training begins with it: `applyToLayers` is done. */
  readonly model: SegmentationModel
  /** Names, or where they are not known only how many. */
  readonly classes: readonly string[] | number
  /** null for epochs of a data set that is not there. */
  readonly length: Length | null
  /** The training split, where it is there. */
  readonly data: {
    readonly images: number
    readonly stepsPerEpoch: number
    readonly labelMap: LabelMap
    /** Where something depends on how often the classes occur. */
    readonly census: Census | null
  } | null
  /** Of a run, which counted them when it began. */
  readonly classWeights?: readonly number[] | null
  /** Whether each parameter is listed. */
  readonly parameters?: boolean
}

export function explain(config: ResolvedConfig, known: Known): Explanation {
  const steps = known.length && "steps" in known.length ? known.length.steps : null
  const norms = batchNormFacts(config, known, steps)
  const sections = [
    { title: "Run", facts: runFacts(config, known, steps) },
    { title: "Preprocessing of each training image, in this order", facts: preprocessingFacts(config, known) },
    { title: "Loss", facts: lossFacts(config, known, steps) },
    { title: "Learning rate", facts: rateFacts(config, steps) },
    { title: "Parameters", facts: groupFacts(config, known.model) },
    { title: "Batch-norm", facts: norms.facts },
    ...(known.parameters ? [{ title: "Each parameter", facts: parameterFacts(config, known.model) }] : []),
  ]
  const notices = [...optimisationNotices(config), ...norms.notices]
  return { config, sections, curve: curveOf(config, steps), steps, notices }
}

// --- the run --------------------------------------------------------------------------------------------------------------

function runFacts(config: ResolvedConfig, { model, classes, length, data }: Known, steps: number | null): Fact[] {
  const { batchSize, accumulate, epochs, evaluations, average, seed, protocol, precision } = config
  const encoder = encoderNameOf(config.model, config.encoder)
  const architecture = modelOptions(config)
  const own = Object.entries(architecture).filter(([key]) => key !== "encoder" && key !== "outputStride")
  const images = Math.min(batchSize, data?.images ?? batchSize)
  const perStep = images * accumulate
  const seconds = length && "seconds" in length ? length.seconds : null
  const passes = steps !== null && data ? (steps * accumulate) / data.stepsPerEpoch : epochs
  const lengthText = [
    ...(steps === null ? [] : [plural(steps, "step")]),
    ...(seconds === null ? [] : [`${number(seconds)} seconds, evaluations included`]),
    ...(passes === null || seconds !== null ? [] : [`${number(passes)} passes over the training split`]),
    ...(data && seconds === null ? [`${plural(data.stepsPerEpoch, "batch", "batches")} each`] : []),
  ].join(", ")
  return [
    ...(protocol === null ? [] : [fact("protocol", protocol)]),
    fact(
      "model",
      { model: config.model, ...architecture, encoder, stride: model.stride },
      `${config.model}${encoder === null ? "" : ` on ${encoder}`}, stride ${model.stride}${own.map(([key, value]) => `, ${key} ${value}`).join("")}`,
    ),
    beginningFact(config),
    fact(
      "classes",
      classes,
      typeof classes === "number" ? `${classes}, unless the data says otherwise` : classes.join(", "),
    ),
    fact("length", { steps, seconds, epochs: seconds === null ? passes : null }, lengthText),
    fact(
      "batch",
      { images, batches: accumulate, imagesPerStep: perStep },
      accumulate === 1
        ? `${plural(images, "image")} a step`
        : `${accumulate} batches of ${plural(images, "image")}, ${perStep} a step: the mean of their gradients`,
    ),
    fact("evaluations", evaluations, `${evaluations}${seconds === null ? "" : ", or as many as the time allows"}`),
    fact(
      "evaluated weights",
      { average },
      average === 0
        ? "the last ones"
        : `averages: a step keeps ${number(average)} of them, so they reach over about the last ${number(1 / (1 - average))} steps (early on the last ninth)`,
    ),
    precisionFact(precision),
    fact("seed", seed, `${seed}: of the weights, the order of the images and their augmentation`),
  ]
}

function precisionFact(precision: Precision): Fact {
  const text = {
    float32: "float32 throughout",
    bfloat16: "convolutions in bfloat16 (8 bits of precision); weights, their gradients and the loss in float32",
    float16: "convolutions in float16, with the loss scaled so that gradients fit; weights and the loss in float32",
  }[precision]
  return fact("precision", precision, text)
}

function beginningFact({ weights, initFrom, initializeLastLayer, freeze }: ResolvedConfig): Fact {
  const last = initializeLastLayer ? "" : ", but for the last layer"
  const from = weights ?? initFrom
  const frozen = freeze ? `; what comes before the encoder's map of stride ${freeze} stays so` : ""
  return fact(
    "begins with",
    { weights, initFrom, initializeLastLayer, freeze },
    from === null
      ? "random weights"
      : `${weights === null ? "the weights" : "the encoder's weights"} of ${from}${last}${frozen}`,
  )
}

// --- learning rate --------------------------------------------------------------------------------------------------------

/** Where the learning rate is looked at: a name and a moment of the run. */
interface Corner {
  readonly name: string
  readonly at: Moment
}

/**
 * The moments at which a schedule begins, turns and ends, in order; those that a run does not reach are left out. Each is the
 * first step of what it names. Without a number of steps they are shares of the run.
 */
export function cornersOf(config: TrainConfig, steps: number | null): Corner[] {
  const { slowStart, warmup, decaySteps, stepSize, milestones, restartEvery } = config
  const peakAt = config.schedule === "one-cycle" ? (config.peakAt ?? 0.3) : null
  const total = steps ?? 1
  const firstAt = (place: number) => (steps === null ? place : firstStepAt(place))
  const places: [name: string, place: number][] = []
  const turn = (before: string, name: string, place: number) => {
    if (steps !== null) places.push([before, place - 1])
    places.push([name, place])
  }
  places.push(["first step", 0])
  const begin = slowStart === null ? 0 : steps === null ? slowStart : slowSteps(slowStart, steps)
  if (begin > 0) turn("last slow step", "schedule begins", begin)
  if (begin > 0 && steps !== null) places.push(["the step after", begin + 1])
  if (warmup) places.push(["end of warm-up", firstAt(warmup * total)])
  for (const [key, value] of Object.entries({ decaySteps, stepSize, milestones, peakAt, restartEvery })) {
    const positions = [value ?? []].flat()
    for (const [k, position] of positions.entries()) {
      const name = positions.length > 1 ? `${key} ${k + 1}` : key
      // For a schedule after a slow start the run is the rest.
      turn(`before ${name}`, name, begin + firstAt(position < 1 ? position * (total - begin) : position))
    }
  }
  for (const [name, share] of Object.entries({ "a quarter": 0.25, half: 0.5, "three quarters": 0.75 })) {
    places.push([name, steps === null ? share : Math.floor(share * steps)])
  }
  places.push(steps === null ? ["end", 1] : ["last step", steps - 1])
  return places
    .filter(([, place], k) => place >= 0 && place <= total && places.findIndex(([, other]) => other === place) === k)
    .filter(([, place]) => steps === null || place < steps)
    .toSorted(([, a], [, b]) => a - b)
    .map(([name, place]) => ({ name, at: momentAt(place, steps) }))
}

function rateFacts(config: ResolvedConfig, steps: number | null): Fact[] {
  const { learningRate, schedule: name, slowStart, slowStartForm, warmup } = config
  const schedule = scheduleOf(config, steps ?? undefined)
  const given = Object.keys(scheduleKeys) as (keyof typeof scheduleKeys)[]
  const options = given.flatMap((option) => {
    const value = config[scheduleKeys[option]]
    return value === null ? [] : [`${scheduleKeys[option]} ${[value].flat().join(",")}`]
  })
  const begins =
    slowStart !== null
      ? `, after a slow start (${slowStartForm ?? "constant"})`
      : warmup
        ? `, after a rise from a hundredth in the first ${number(100 * warmup)} % of the run`
        : ""
  return [
    fact(
      "schedule",
      { schedule: name, learningRate, options, slowStart, slowStartForm, warmup },
      `${name} from ${number(learningRate)}${options.length > 0 ? ` (${options.join(", ")})` : ""}${begins}`,
    ),
    ...cornersOf(config, steps).map(({ name, at }) => {
      const rate = learningRate * schedule(at)
      const where = steps === null ? `${number(100 * at.progress)} % of the run` : `step ${at.step}`
      return fact(
        name,
        { ...(steps === null ? { share: at.progress } : { step: at.step }), rate },
        `${number(rate)}  (${where})`,
      )
    }),
  ]
}

const CURVE_POINTS = 240

function curveOf(config: ResolvedConfig, steps: number | null): CurvePoint[] {
  const schedule = scheduleOf(config, steps ?? undefined)
  const mining = miningOf(config)
  const corners = cornersOf(config, steps).map(({ at }) => (steps === null ? at.progress : at.step))
  const last = steps === null ? 1 : steps - 1
  const even = Array.from({ length: CURVE_POINTS + 1 }, (_, k) => (k / CURVE_POINTS) * last)
  const places = [...even.map(steps === null ? Number : Math.round), ...corners]
  const moments = [...new Set(places)].map((place) => momentAt(place, steps))
  return moments
    .toSorted((a, b) => a.progress - b.progress)
    .map((at) => ({
      step: steps === null ? round(1000 * at.progress, 6) : at.step,
      rate: config.learningRate * schedule(at),
      minedShare: mining && "topK" in mining && (steps !== null || mining.until < 1) ? minedShare(mining, at) : null,
    }))
}

// --- parameters -----------------------------------------------------------------------------------------------------------

interface Trained {
  readonly place: ParameterPlace
  readonly shape: readonly number[]
  readonly numbers: number
  readonly settings: Partial<ParameterSettings>
}

/** Each parameter with what the optimizer of the run does to it. */
function trainedParameters(config: ResolvedConfig, model: SegmentationModel): Trained[] {
  using optimizer = optimizerFor(model, config)
  const parameters = new Map(model.namedParameters())
  return parameterPlaces(model).map((place) => {
    const { shape, numel } = parameters.get(place.name)!
    return { place, shape, numbers: numel, settings: optimizer.groupOf(place.name) }
  })
}

function groupFacts(config: ResolvedConfig, model: SegmentationModel): Fact[] {
  const groups = groupBy(trainedParameters(config, model), ({ place }) => groupOf(place, config, model))
  const rows = [...groups].map(([name, members]) => {
    const numbers = members.reduce((sum, member) => sum + member.numbers, 0)
    const { place, settings } = members[0]!
    const value = { tensors: members.length, numbers, learns: place.learns, ...settings }
    return { name, value, cells: [plural(members.length, "tensor"), plural(numbers, "number"), settingsText(value)] }
  })
  const widths = [0, 1].map((column) => Math.max(...rows.map(({ cells }) => cells[column]!.length)))
  return [
    stepFact(config, model),
    ...rows.map(({ name, value, cells: [tensors, numbers, text] }) =>
      fact(name, value, `${tensors!.padStart(widths[0]!)}  ${numbers!.padStart(widths[1]!)}  ${text}`),
    ),
  ]
}

function parameterFacts(config: ResolvedConfig, model: SegmentationModel): Fact[] {
  return trainedParameters(config, model).map(({ place, shape, settings }) => {
    const { name, kind, learns } = place
    return fact(
      name,
      { kind, shape, learns, ...settings },
      `${kind} [${shape.join(", ")}]: ${settingsText({ learns, ...settings })}`,
    )
  })
}

/** Parameters of one group have the same settings. */
function groupOf(
  { kind, isLogits, isAux, stagesLeft, learns }: ParameterPlace,
  config: TrainConfig,
  model: SegmentationModel,
) {
  const stages = model.backbone?.strides.length ?? 0
  const stage = config.layerDecay === 1 ? "" : ` stage ${stages - stagesLeft + 1}`
  const layers = isLogits ? "logits" : model.backbone ? "head" : "layers"
  const part = stagesLeft > 0 ? `encoder${stage}` : isAux ? `auxiliary ${layers}` : layers
  const kinds = { weight: "weights", "depthwise weight": "depthwise weights", bias: "biases", norm: "norms" }
  return `${part}, ${kinds[kind]}${learns ? "" : ", frozen"}`
}

function settingsText({
  learns,
  rate = 1,
  gradient = 1,
  weightDecay = 0,
}: Partial<ParameterSettings> & { learns: boolean }) {
  if (!learns) return "stay as they are"
  return `rate x ${number(rate)}, gradient x ${number(gradient)}, decay ${number(weightDecay)}`
}

/** What happens to a gradient until the weight has moved. */
function stepFact(config: ResolvedConfig, model: SegmentationModel): Fact {
  using optimizer = optimizerFor(model, config)
  const { isDecoupled } = optimizer
  const { optimizer: name, clipValue, clipNorm, nesterov } = config
  const momentum = momentumOf(config)
  const betas = "betas" in optimizer ? ` (betas ${(optimizer.betas as number[]).join(", ")})` : ""
  const text = [
    "gradient",
    ...(clipValue === null ? [] : [`each number into ${number(-clipValue)} to ${number(clipValue)}`]),
    ...(clipNorm === null ? [] : [`all together no longer than ${number(clipNorm)}`]),
    ...(isDecoupled ? [] : ["+ decay x weight"]),
    "x gradient factor",
    name === "sgd" ? `sgd (momentum ${number(momentum)}${nesterov ? ", Nesterov" : ""})` : `${name}${betas}`,
    `- learning rate x rate factor${isDecoupled ? ", by which decay shrinks the weight itself" : ""}`,
  ].join(" -> ")
  return fact(
    "a step",
    {
      optimizer: name,
      clipValue,
      clipNorm,
      isDecoupled,
      ...(name === "sgd" && { momentum, nesterov }),
      ...("betas" in optimizer && { betas: optimizer.betas }),
      ...("eps" in optimizer && { eps: optimizer.eps }),
    },
    text,
  )
}

// --- batch-norm -----------------------------------------------------------------------------------------------------------

function batchNormFacts(
  config: ResolvedConfig,
  { model }: Known,
  steps: number | null,
): { facts: Fact[]; notices: string[] } {
  const norms = batchNormsOf(model)
  if (norms.length === 0) return { facts: [fact("layers", 0, "there are none")], notices: [] }
  const frozen = norms.filter((norm) => norm.frozen).length
  const batches = steps === null ? null : steps * config.accumulate
  const byMomentum = groupBy(
    norms.filter((norm) => !norm.frozen),
    ({ momentum }) => momentum,
  )
  const learning = [...byMomentum].toSorted(([a], [b]) => a - b)
  const facts = learning.map(([momentum, { length }]) => {
    const share = batches === null ? null : initialShare(momentum, batches)
    const left =
      share === null
        ? ""
        : `; after the ${batches!.toLocaleString("en")} batches ${share < 1e-4 ? "less than 0.01" : number(100 * share)} % of them is what they began with`
    return fact(
      learning.length === 1 ? "that learn" : `with momentum ${number(momentum)}`,
      { layers: length, momentum, initialShare: share },
      `${plural(length, "layer")}: a batch moves the running statistics by ${number(momentum)} (a decay of ${number(1 - momentum)})${left}`,
    )
  })
  const { batchNormBatches } = config
  const slowest = learning[0]?.[0]
  const notice =
    batchNormBatches > 0 || slowest === undefined || batches === null ? null : initialStatisticsNotice(slowest, batches)
  return {
    facts: [
      ...facts,
      ...(frozen > 0
        ? [
            fact(
              "frozen",
              frozen,
              `${plural(frozen, "layer")}: the running statistics are used in training too, and stay`,
            ),
          ]
        : []),
      ...(config.syncBatchNorm
        ? [
            fact(
              "statistics of a batch",
              "all processes",
              "taken over the batches of all processes that train together (with one: as ever)",
            ),
          ]
        : []),
      fact(
        "before an evaluation",
        { batchNormBatches },
        batchNormBatches === 0
          ? "statistics are as training left them"
          : `statistics are measured on ${plural(batchNormBatches, "batch", "batches")} of unscaled training crops`,
      ),
    ],
    notices: notice === null ? [] : [notice],
  }
}

// --- two of them ----------------------------------------------------------------------------------------------------------

export interface Difference {
  /** Options that differ, in their order. */
  readonly options: readonly { readonly key: keyof TrainConfig; readonly a: unknown; readonly b: unknown }[]
  /** Facts that differ, or that only one has. */
  readonly facts: readonly {
    readonly section: string
    readonly name: string
    readonly a: Fact | null
    readonly b: Fact | null
  }[]
}

export function difference(a: Explanation, b: Explanation): Difference {
  const options = (Object.keys(configFields) as (keyof TrainConfig)[])
    .filter((key) => !isDeepStrictEqual(a.config[key], b.config[key]))
    .map((key) => ({ key, a: a.config[key], b: b.config[key] }))
  const titles = [...new Set([...a.sections, ...b.sections].map(({ title }) => title))]
  const facts = titles.flatMap((section) => {
    const [ofA, ofB] = [a, b].map(
      ({ sections }) =>
        new Map(sections.find(({ title }) => title === section)?.facts.map((fact) => [fact.name, fact] as const)),
    ) as [Map<string, Fact>, Map<string, Fact>]
    const names = [...new Set([...ofA.keys(), ...ofB.keys()])]
    return names.flatMap((name) => {
      const [x, y] = [ofA.get(name) ?? null, ofB.get(name) ?? null]
      return isDeepStrictEqual(x?.value, y?.value) ? [] : [{ section, name, a: x, b: y }]
    })
  })
  return { options, facts }
}
