// What a configuration means for the learning rate, and which of its options go together.
import { UserError } from "../errors.ts"
import {
  createSchedule,
  type Schedule,
  type ScheduleEntry,
  type ScheduleOptions,
  schedules,
  slowStart,
  slowSteps,
  warmup,
} from "../optim/index.ts"
import type { NameKey, TrainConfig } from "./config.ts"

/** Where the options of the schedules stand in a configuration. */
export const scheduleKeys = {
  power: "power",
  end: "endLearningRate",
  decaySteps: "decaySteps",
  stepSize: "stepSize",
  milestones: "milestones",
  gamma: "gamma",
  peakAt: "peakAt",
  restartEvery: "restartEvery",
  restartGrowth: "restartGrowth",
} as const satisfies Record<keyof ScheduleOptions, keyof TrainConfig>

/** Share of the run in which the rate rises, where nothing else is wanted. */
const WARMUP = 0.03
const SLOW_START_RATE = 1e-4 // DeepLab's

/**
 * The learning rate over a run, as a factor of `config.learningRate`: slow start or warm-up, then the schedule.
 * @param steps the run's length, where it is not a time budget
 * @throws UserError when the rates or lengths contradict each other
 */
export function scheduleOf(config: TrainConfig & { learningRate: number }, steps?: number): Schedule {
  const { learningRate, endLearningRate: end, slowStart: until } = config
  if (end !== null && end > learningRate) {
    throw new UserError(`endLearningRate is ${end}, above the learning rate ${learningRate} that it is to fall from.`)
  }
  const given = Object.entries(scheduleKeys).flatMap(([option, key]) => {
    const value = config[key]
    return value === null ? [] : [[option, key === "endLearningRate" ? Number(value) / learningRate : value] as const]
  })
  const schedule = createSchedule(config.schedule, Object.fromEntries(given))
  if (until !== null) {
    if (steps !== undefined && slowSteps(until, steps) >= steps) {
      const length = `${slowSteps(until, steps)} steps`
      throw new UserError(
        `slowStart is ${until >= 1 ? length : `${until}, ${length}`} and the run has ${steps}: its schedule would never begin.`,
      )
    }
    const rate = (config.slowStartLearningRate ?? SLOW_START_RATE) / learningRate
    return slowStart(schedule, { until, rate, form: config.slowStartForm ?? "constant" })
  }
  return warmup(schedule, { until: warmupOf(config), from: 0.01 })
}

/** Share of the run in which the learning rate rises from a hundredth. */
export const warmupOf = ({ warmup, slowStart, schedule }: TrainConfig): number =>
  warmup ?? (slowStart !== null || schedule === "one-cycle" ? 0 : WARMUP)

/** Of sgd. */
export const momentumOf = ({ momentum }: TrainConfig): number => momentum ?? 0.9

/** @throws UserError for options that would do nothing, or contradict each other */
export function refuseIdleOptimisation(config: TrainConfig, name: NameKey): void {
  const refuse = (key: keyof TrainConfig, text: string) => {
    throw new UserError(`${name(key)} ${text}`)
  }
  refuseOfOptimizer(config, refuse)
  refuseOfMultipliers(config, refuse, name)
  refuseOfSchedule(config, refuse, name)
}

type Refuse = (key: keyof TrainConfig, text: string) => void

function refuseOfOptimizer({ optimizer, momentum, nesterov, betas, eps }: TrainConfig, refuse: Refuse): void {
  if (nesterov && optimizer !== "sgd") refuse("nesterov", `is for sgd; ${optimizer} has no such momentum.`)
  if (momentum !== null && optimizer !== "sgd") refuse("momentum", `is for sgd; ${optimizer} has no such thing.`)
  if (nesterov && momentum === 0) refuse("nesterov", "looks ahead along the momentum, which is 0.")
  if (betas && optimizer === "sgd") refuse("betas", "is for adam, adamw and lion; sgd has one momentum.")
  if (eps !== null && optimizer !== "adam" && optimizer !== "adamw") {
    refuse("eps", `is for adam and adamw; ${optimizer} divides by nothing.`)
  }
}

function refuseOfMultipliers(config: TrainConfig, refuse: Refuse, name: NameKey): void {
  const { biasMultiplier, lastLayerMultiplier, lastLayers, multiplierForm, headRate, decayExempt, weightDecay } = config
  const used = (["biasMultiplier", "lastLayerMultiplier"] as const).filter((key) => config[key] !== 1)
  if (used.length > 0 && multiplierForm === null) {
    refuse(used[0]!, `wants ${name("multiplierForm")}: what it multiplies, the gradient or the (learning) rate.`)
  }
  if (used.length === 0 && multiplierForm !== null) {
    refuse(
      "multiplierForm",
      `is about ${name("biasMultiplier")} ${biasMultiplier} and ${name("lastLayerMultiplier")} ${lastLayerMultiplier}, which change nothing.`,
    )
  }
  if (lastLayers !== null && lastLayerMultiplier === 1) {
    refuse("lastLayers", `is about ${name("lastLayerMultiplier")}, which is 1 and changes nothing.`)
  }
  if (lastLayerMultiplier !== 1 && lastLayers !== "logits" && (headRate ?? 1) !== 1) {
    refuse("headRate", `and ${name("lastLayerMultiplier")} are both factors of all but the encoder: give one.`)
  }
  if (decayExempt !== "none" && weightDecay === 0) {
    refuse("decayExempt", `leaves parameters out of a weight decay that is 0.`)
  }
}

function refuseOfSchedule(config: TrainConfig, refuse: Refuse, name: NameKey): void {
  const { schedule, slowStart: slow } = config
  const { takes, needs = [] }: ScheduleEntry = schedules[schedule]
  for (const [option, key] of Object.entries(scheduleKeys) as [keyof ScheduleOptions, keyof TrainConfig][]) {
    if (config[key] !== null && !takes.includes(option)) {
      refuse(key, `does nothing in the schedule ${schedule}; there are: ${takersOf(option)}.`)
    }
    if (config[key] === null && needs.includes(option)) {
      refuse(key, `is missing: the schedule ${schedule} wants a number of steps, or a share of the run below 1.`)
    }
  }
  for (const key of ["slowStartLearningRate", "slowStartForm"] as const) {
    if (config[key] !== null && slow === null) refuse(key, `is about ${name("slowStart")}, which is not given.`)
  }
  if ((config.warmup ?? 0) > 0 && (slow !== null || schedule === "one-cycle")) {
    refuse("warmup", `and ${slow !== null ? name("slowStart") : "one-cycle"} both say how the run begins: give one.`)
  }
  if (config.steps !== null || config.epochs !== null) return
  for (const [key, counts] of positionsInSteps(config)) {
    refuse(
      key,
      `is ${counts} steps, but how many steps a time budget allows is not known before: give shares of the run, such as 0.3, or a length in ${name("steps")} or ${name("epochs")}.`,
    )
  }
}

/** The options that give places in the run as numbers of steps, not as shares, with these numbers: ["milestones", "100,200"]. */
export function positionsInSteps(config: TrainConfig): [key: keyof TrainConfig, counts: string][] {
  const keys = ["decaySteps", "stepSize", "milestones", "restartEvery", "slowStart"] as const
  return keys.flatMap((key) => {
    const counts = [config[key] ?? []].flat().filter((value) => value >= 1)
    return counts.length > 0 ? [[key, counts.join(",")] as [keyof TrainConfig, string]] : []
  })
}

/** The schedules that an option is for. */
const takersOf = (option: keyof ScheduleOptions): string =>
  Object.entries<ScheduleEntry>(schedules)
    .flatMap(([name, { takes }]) => (takes.includes(option) ? [name] : []))
    .join(", ")

/** What the user of a configuration should know about its optimisation. */
export function optimisationNotices(config: TrainConfig): string[] {
  const { optimizer, multiplierForm } = config
  if (multiplierForm !== "gradient" || optimizer === "sgd") return []
  return [
    `multiplierForm is gradient, and ${optimizer} divides each gradient by its own size: the multipliers nearly cancel. Choose rate for factors that act.`,
  ]
}

/** What part of batch-norm's running statistics is still what the run began with after `batches` of it. */
export const initialShare = (momentum: number, batches: number): number => (1 - momentum) ** batches

/** A warning when over half of batch-norm's running statistics is still what the run began with after `batches` of it. */
export function initialStatisticsNotice(momentum: number, batches: number): string | null {
  const left = initialShare(momentum, batches)
  if (!(left > 0.5)) return null
  return (
    `With a batch-norm momentum of ${momentum}, ${Math.round(100 * left)} % of the running statistics are still the initial ones after ${batches} batches. ` +
    `Train longer, take a larger batchNormMomentum, or have them measured: batchNormBatches 16.`
  )
}
