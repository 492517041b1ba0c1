// Schedules: the learning rate over a run, as a factor of the base rate. Pure functions of where the run is, so that a
// resumed run continues the same curve, and one with a time budget still reaches the curve's end.
import { didYouMean, UserError } from "../errors.ts"

/** Where a run is when a step begins. */
export interface Moment {
  /** Fraction of the run that is done, 0 to 1: of its steps, or of its time when it has a budget. */
  progress: number
  /** Steps done. */
  step: number
  /** Steps of the whole run, where that is known: a time budget decides it only as the run goes. */
  steps?: number | undefined
}

/** Factor of the base learning rate. `optimizer.lr = lr * schedule({ progress, step })` */
export type Schedule = (at: Moment) => number

/**
 * A place in a run, or a part of it: from 1 on a number of steps, below 1 a share of the run. Shares mean the same in a
 * run of any length and under a time budget; steps are what other code and papers give.
 */
export type Position = number

export interface ScheduleOptions {
  /** Exponent of "poly". */
  power?: number
  /** Factor at the end of the run, 0 to 1. */
  end?: number
  /** When "poly" and "cosine" reach `end`, and stay there. Default: at the end of the run. */
  decaySteps?: Position
  /** After each of these "step" falls. */
  stepSize?: Position
  /** At each of these "multi-step" falls. */
  milestones?: readonly Position[]
  /** Factor of each fall. */
  gamma?: number
  /** Share of the run in which "one-cycle" rises. */
  peakAt?: number
  /** Length of the first cycle of "warm-restarts". */
  restartEvery?: Position
  /** How many times as long each cycle is as the one before. */
  restartGrowth?: number
}

type ScheduleFactory = (options?: ScheduleOptions) => Schedule

export interface ScheduleEntry {
  /** Options that it understands. */
  readonly takes: readonly (keyof ScheduleOptions)[]
  /** Those of them that have no default. */
  readonly needs?: readonly (keyof ScheduleOptions)[]
  readonly create: ScheduleFactory
}

/** 1 */
export const constant: ScheduleFactory = () => () => 1

/** end + (1 - end) (1 - progress)^power. Chen et al. 2017, DeepLab, https://arxiv.org/abs/1606.00915: power 0.9. */
export const poly: ScheduleFactory = ({ power = 0.9, end = 0, decaySteps } = {}) => {
  return (at) => end + (1 - end) * (1 - through(decaySteps, at)) ** power
}

/** end + (1 - end) (1 + cos(pi progress)) / 2. Loshchilov and Hutter 2017, SGDR, https://arxiv.org/abs/1608.03983 */
export const cosine: ScheduleFactory = ({ end = 0, decaySteps } = {}) => {
  return (at) => fall(1, end, through(decaySteps, at))
}

/** gamma^k after k times `stepSize`: a staircase, as torch.optim.lr_scheduler.StepLR. */
export const step: ScheduleFactory = ({ stepSize, gamma = 0.1 } = {}) => {
  const size = required("stepSize", stepSize)
  return (at) => gamma ** whole(passed(size, at))
}

/** gamma^k after k of the `milestones`, as torch.optim.lr_scheduler.MultiStepLR. */
export const multiStep: ScheduleFactory = ({ milestones, gamma = 0.1 } = {}) => {
  const all = required("milestones", milestones)
  return (at) => gamma ** all.filter((milestone) => whole(passed(milestone, at)) >= 1).length
}

/**
 * Rises along half a cosine from 1/25 to 1 at `peakAt`, then falls along another to `end`: large rates in the middle, where
 * they do no harm, and very small ones last. Momentum stays as it is. As torch.optim.lr_scheduler.OneCycleLR with
 * cycle_momentum=False, but that one ends a step before the run.
 * Smith and Topin 2018, https://arxiv.org/abs/1708.07120
 */
export const oneCycle: ScheduleFactory = ({ peakAt = 0.3, end = 4e-6 } = {}) => {
  return ({ progress }) => {
    const x = clamp(progress)
    return x < peakAt ? fall(1 / 25, 1, x / peakAt) : fall(1, end, (x - peakAt) / (1 - peakAt))
  }
}

/**
 * Cosines from 1 to `end`, the first `restartEvery` long, each `restartGrowth` times as long as the one before. As
 * torch.optim.lr_scheduler.CosineAnnealingWarmRestarts. Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983
 */
export const warmRestarts: ScheduleFactory = ({ restartEvery, restartGrowth = 1, end = 0 } = {}) => {
  const first = required("restartEvery", restartEvery)
  return (at) => {
    const cycles = passed(first, at) // in lengths of the first
    let [start, length] = [0, 1]
    if (restartGrowth === 1) start = whole(cycles)
    else while (whole((cycles - start) / length) >= 1) [start, length] = [start + length, length * restartGrowth]
    return fall(1, end, clamp((cycles - start) / length))
  }
}

// --- how a run begins -----------------------------------------------------------------------------------------------------

/**
 * Multiplies `schedule` by a line from `from` at the start to 1 at `until` (a fraction of the run): large steps at first
 * would follow gradients of random weights.
 */
export function warmup(schedule: Schedule, { until = 0.05, from = 0 } = {}): Schedule {
  if (!(until >= 0 && until <= 1)) {
    throw new UserError(`warmup: until is ${until}; expected a fraction of the run, 0 to 1.`)
  }
  return (at) => schedule(at) * (at.progress < until ? from + (1 - from) * (at.progress / until) : 1)
}

export interface SlowStartOptions {
  /** A whole number of steps, or a share of the run, which is rounded to whole steps where their number is known. */
  until: Position
  /** Factor of the base rate at the start. */
  rate: number
  /** constant: it stays at `rate` until it jumps to `schedule`; linear: a line to it. */
  form?: "constant" | "linear"
}

/**
 * DeepLab's slow start: until S the rate is `rate`, or on a line from there to the base rate, and only then `schedule`
 * begins. For it the run is the rest: at step g of T it is asked about step g - S of T - S.
 * @throws UserError (the schedule does) when S is a number of steps and the moment does not know how many there will be
 */
export function slowStart(schedule: Schedule, { until, rate, form = "constant" }: SlowStartOptions): Schedule {
  return (at) => {
    const { begun, rest } = leaveOut(until, at)
    if (begun >= 1) return schedule(rest)
    return form === "constant" ? rate : rate + (schedule(rest) - rate) * begun
  }
}

/** How long a slow start is in a run of so many steps. */
export const slowSteps = (until: Position, steps: number): number => (until >= 1 ? until : Math.round(until * steps))

/** How much of the slow start is over, 1 at its end, and the moment as the rest of the run sees it. */
function leaveOut(until: Position, { progress, step, steps }: Moment): { begun: number; rest: Moment } {
  if (steps === undefined) {
    if (until >= 1) {
      throw new UserError(
        `A slow start of ${until} steps wants a run whose number of steps is known. Give it as a share of the run, such as 0.05.`,
      )
    }
    return { begun: progress / until, rest: { progress: Math.max(0, progress - until) / (1 - until), step } }
  }
  const slow = slowSteps(until, steps)
  const rest = { step: Math.max(0, step - slow), steps: steps - slow }
  return { begun: slow === 0 ? 1 : step / slow, rest: { ...rest, progress: clamp(rest.step / rest.steps) } }
}

// --- the table ------------------------------------------------------------------------------------------------------------

/** The schedules by name. To add one: write it above and add it here. */
export const schedules = {
  constant: { takes: [], create: constant },
  poly: { takes: ["power", "end", "decaySteps"], create: poly },
  cosine: { takes: ["end", "decaySteps"], create: cosine },
  step: { takes: ["stepSize", "gamma"], needs: ["stepSize"], create: step },
  "multi-step": { takes: ["milestones", "gamma"], needs: ["milestones"], create: multiStep },
  "one-cycle": { takes: ["peakAt", "end"], create: oneCycle },
  "warm-restarts": { takes: ["restartEvery", "restartGrowth", "end"], needs: ["restartEvery"], create: warmRestarts },
} as const satisfies Record<string, ScheduleEntry>
export type ScheduleName = keyof typeof schedules
export const scheduleNames = Object.keys(schedules) as ScheduleName[]

/** @throws UserError for an unknown name, and for options that this schedule does not take or lacks */
export function createSchedule(name: string, options: ScheduleOptions = {}): Schedule {
  const entry = (schedules as Record<string, ScheduleEntry>)[name]
  if (!entry) {
    throw new UserError(
      `Unknown schedule "${name}".${didYouMean(name, scheduleNames)} There are: ${scheduleNames.join(", ")}.`,
    )
  }
  const idle = Object.entries(options).find(
    ([key, value]) => value !== undefined && !(entry.takes as readonly string[]).includes(key),
  )
  if (idle) {
    throw new UserError(
      `The schedule ${name} takes no ${idle[0]}. It takes: ${entry.takes.join(", ") || "no options"}.`,
    )
  }
  return entry.create(options)
}

// --- arithmetic -----------------------------------------------------------------------------------------------------------

// A time budget may be overrun by part of a step.
const clamp = (progress: number): number => Math.min(1, Math.max(0, progress))

/** From `high` at 0 to `low` at 1, along half a cosine. */
const fall = (high: number, low: number, x: number): number => low + ((high - low) * (1 + Math.cos(Math.PI * x))) / 2

/** How often `position` fits into what is done of the run. */
const passed = (position: Position, { step, progress }: Moment): number => (position < 1 ? progress : step) / position

/** The same, as a fraction of the way to `position`; of the whole run where there is none. */
export const through = (position: Position | undefined, at: Moment): number =>
  clamp(position === undefined ? at.progress : passed(position, at))

/** Rounded down; but 0.3 / 0.1, which is 2.9999999999999996, is 3. */
const whole = (count: number): number => Math.floor(count + 1e-9)

function required<T>(name: string, value: T | undefined): T {
  if (value === undefined) throw new UserError(`This schedule wants ${name}: a number of steps, or a share of the run.`)
  return value
}
