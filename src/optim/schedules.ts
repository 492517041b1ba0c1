// Schedules: the learning rate over a run, as a factor of the base rate. Pure functions of where the run is, so that a
// resumed run continues the same curve, and one with a time budget still reaches the curve's end.
import { UserError } from "../errors.ts"

/** Where a run is when a step begins. */
export interface Moment {
  /** Fraction of the run that is done, 0 to 1: of its steps, or of its time when it has a budget. */
  progress: number
  /** Steps done. */
  step: number
}

/** Factor of the base learning rate. `optimizer.lr = lr * schedule({ progress, step })` */
export type Schedule = (at: Moment) => number

export interface ScheduleOptions {
  /** Exponent of "poly". */
  power?: number
  /** Factor at the end of the run, 0 to 1. */
  end?: number
}

type ScheduleFactory = (options?: ScheduleOptions) => Schedule

/** 1 */
export const constant: ScheduleFactory = () => () => 1

/** end + (1 - end) (1 - progress)^power. Chen et al. 2017, DeepLab, https://arxiv.org/abs/1606.00915: power 0.9. */
export const poly: ScheduleFactory = ({ power = 0.9, end = 0 } = {}) => {
  return ({ progress }) => end + (1 - end) * (1 - clamp(progress)) ** power
}

/** end + (1 - end) (1 + cos(pi progress)) / 2. Loshchilov and Hutter 2017, SGDR, https://arxiv.org/abs/1608.03983 */
export const cosine: ScheduleFactory = ({ end = 0 } = {}) => {
  return ({ progress }) => end + ((1 - end) * (1 + Math.cos(Math.PI * clamp(progress)))) / 2
}

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

/** The schedules by name. To add one: write it above and add it here. */
export const schedules = { constant, poly, cosine } satisfies Record<string, ScheduleFactory>
export type ScheduleName = keyof typeof schedules
export const scheduleNames = Object.keys(schedules) as ScheduleName[]

// A time budget may be overrun by part of a step.
const clamp = (progress: number): number => Math.min(1, Math.max(0, progress))
