// Schedules by hand; that they are PyTorch's: tests/parity/schedules.test.ts.
import fc from "fast-check"
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import {
  constant,
  cosine,
  createSchedule,
  multiStep,
  oneCycle,
  poly,
  type Schedule,
  type ScheduleName,
  type ScheduleOptions,
  scheduleNames,
  slowStart,
  step,
  warmRestarts,
  warmup,
} from "./index.ts"

const at = (schedule: Schedule, progress: number) => schedule({ progress, step: 0 })
const ofSteps = (schedule: Schedule, step: number, steps: number) => schedule({ progress: step / steps, step, steps })

/** Options with which each schedule falls in the course of a run. */
const options: Record<ScheduleName, ScheduleOptions> = {
  constant: {},
  poly: { end: 0.25 },
  cosine: { end: 0.25 },
  step: { stepSize: 0.4, gamma: 0.5 },
  "multi-step": { milestones: [0.5, 0.75], gamma: 0.5 },
  "one-cycle": { end: 0.25 },
  "warm-restarts": { restartEvery: 0.25, end: 0.25 },
}

test("values worked by hand", () => {
  expect(at(constant(), 0.7)).toBe(1)
  expect(at(poly({ power: 2 }), 0.5)).toBe(0.25)
  expect(at(poly(), 0.5)).toBeCloseTo(0.5358867, 7) // 2^-0.9
  expect(at(poly({ power: 1, end: 0.2 }), 0.5)).toBeCloseTo(0.6, 15)
  expect(at(cosine(), 1 / 3)).toBeCloseTo(0.75, 15) // cos 60 degrees = 1/2
  expect(at(cosine({ end: 0.1 }), 0.5)).toBeCloseTo(0.55, 15)
  expect([0, 0.15, 0.3, 1].map((x) => at(oneCycle(), x))).toEqual(
    [0.04, 0.52, 1, 4e-6].map((x) => expect.closeTo(x, 15)),
  )
})

test("falls, in steps and in shares of the run", () => {
  const counts = step({ stepSize: 20, gamma: 0.5 })
  const shares = step({ stepSize: 0.1, gamma: 0.5 })
  for (const [k, expected] of [
    [0, 1],
    [19, 1],
    [20, 0.5],
    [21, 0.5],
    [59, 0.25],
    [60, 0.125],
    [199, 2 ** -9],
  ] as const) {
    expect(ofSteps(counts, k, 200), `step ${k}`).toBe(expected)
    expect(ofSteps(shares, k, 200), `share at step ${k}`).toBe(expected) // 60: 0.3 / 0.1 is 2.9999999999999996
  }
  const two = multiStep({ milestones: [50, 0.75], gamma: 0.5 })
  expect([0, 49, 50, 149, 150, 199].map((k) => ofSteps(two, k, 200))).toEqual([1, 1, 0.5, 0.5, 0.25, 0.25])
})

test("restarts: cosines of the wanted lengths", () => {
  const equal = warmRestarts({ restartEvery: 10 })
  expect([0, 5, 10, 15, 20].map((k) => ofSteps(equal, k, 40))).toEqual(
    [1, 0.5, 1, 0.5, 1].map((x) => expect.closeTo(x, 15)),
  )
  const growing = warmRestarts({ restartEvery: 10, restartGrowth: 2 }) // 0-10, 10-30, 30-70
  expect([0, 5, 10, 20, 30, 50].map((k) => ofSteps(growing, k, 70))).toEqual(
    [1, 0.5, 1, 0.5, 1, 0.5].map((x) => expect.closeTo(x, 15)),
  )
})

test("poly and cosine reach their end after decaySteps, and stay there", () => {
  for (const make of [poly, cosine]) {
    const [whole, half, fifty] = [
      make({ end: 0.1 }),
      make({ end: 0.1, decaySteps: 0.5 }),
      make({ end: 0.1, decaySteps: 50 }),
    ]
    for (const k of [0, 10, 49]) {
      expect(ofSteps(half, k, 100)).toBeCloseTo(ofSteps(whole, 2 * k, 100), 15)
      expect(ofSteps(fifty, k, 100)).toBeCloseTo(ofSteps(whole, 2 * k, 100), 15)
    }
    for (const k of [50, 51, 99]) expect(ofSteps(fifty, k, 100)).toBeCloseTo(0.1, 15)
  }
})

test.each(scheduleNames)("%s: starts at 1 (one-cycle: at a 25th), and holds its end when time is overrun", (name) => {
  const schedule = createSchedule(name, options[name])
  const values = Array.from({ length: 101 }, (_, k) => at(schedule, k / 100))
  expect(values[0]).toBeCloseTo(name === "one-cycle" ? 0.04 : 1, 15)
  for (const value of values) expect(value).toBeGreaterThan(0)
  for (const value of values) expect(value).toBeLessThanOrEqual(1)
  if (name === "poly" || name === "cosine" || name === "one-cycle") {
    expect(values[100]).toBeCloseTo(0.25, 15)
    expect(at(schedule, 1.01)).toBeCloseTo(0.25, 15)
  }
  const peak = name === "one-cycle" ? 30 : 0
  if (name === "warm-restarts") return
  for (let k = peak + 1; k <= 100; k++) expect(values[k]).toBeLessThanOrEqual(values[k - 1]!)
})

test.each(scheduleNames)("%s: a pure function of the moment, the same in any order", (name) => {
  const schedule = slowStart(warmup(createSchedule(name, options[name])), { until: 0.1, rate: 0.1 })
  const through = Array.from({ length: 11 }, (_, k) => ofSteps(schedule, k, 10))
  for (const k of [7, 3, 10, 0]) expect(ofSteps(schedule, k, 10)).toBe(through[k])
})

test("a schedule does not care how long the run is when its options are shares", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...scheduleNames),
      fc.integer({ min: 1, max: 500 }),
      fc.integer({ min: 2, max: 9 }),
      (name, steps, factor) => {
        const schedule = createSchedule(name, options[name])
        const k = steps >> 1
        expect(ofSteps(schedule, k * factor, steps * factor)).toBeCloseTo(ofSteps(schedule, k, steps), 12)
      },
    ),
    { seed: 4, numRuns: 200 },
  )
})

test("warm-up rises in a line and leaves the rest alone", () => {
  const schedule = warmup(constant(), { until: 0.2, from: 0.5 })
  expect([0, 0.1, 0.2, 0.9].map((progress) => at(schedule, progress))).toEqual([0.5, 0.75, 1, 1])
  expect(at(warmup(poly(), { until: 0.2 }), 0.1)).toBe(at(poly(), 0.1) * 0.5)
  expect(at(warmup(poly(), { until: 0.2 }), 0.6)).toBe(at(poly(), 0.6))
})

test("no warm-up: until 0 changes nothing", () => {
  expect(at(warmup(constant(), { until: 0 }), 0)).toBe(1)
  expect(() => warmup(constant(), { until: 5 })).toThrow(UserError)
})

// --- slow start -----------------------------------------------------------------------------------------------------------

/** TensorFlow's DeepLab, train_utils.get_model_learning_rate, as a rate. */
function deepLab(step: number, { base, end, power, steps, slow, slowRate }: Record<string, number>): number {
  if (step < slow!) return slowRate!
  const g = Math.max(step - slow!, 0)
  return (base! - end!) * (1 - g / (steps! - slow!)) ** power! + end!
}

test("slow start with poly is DeepLab's formula, at every corner", () => {
  const facts = { base: 0.007, end: 1e-5, power: 0.9, steps: 3000, slow: 500, slowRate: 1e-4 }
  const schedule = slowStart(poly({ end: facts.end / facts.base }), { until: 500, rate: facts.slowRate / facts.base })
  const rate = (k: number) => facts.base * ofSteps(schedule, k, facts.steps)
  const { steps, slow } = facts
  for (const k of [0, 1, slow - 1, slow, slow + 1, 1750, steps - 1, steps]) {
    expect(rate(k), `step ${k}`).toBeCloseTo(deepLab(k, facts), 16)
  }
  // By hand: the slow rate, then all of the base, half of the rest, the end.
  expect([rate(499), rate(500)]).toEqual([expect.closeTo(1e-4, 16), 0.007])
  expect(rate(1750)).toBeCloseTo((0.007 - 1e-5) * 0.5 ** 0.9 + 1e-5, 16)
  expect(rate(3000)).toBeCloseTo(1e-5, 16)
})

test("slow start in its linear form meets the base rate without a jump", () => {
  const schedule = slowStart(poly(), { until: 100, rate: 0.2, form: "linear" })
  expect([0, 25, 50, 100].map((k) => ofSteps(schedule, k, 300))).toEqual(
    [0.2, 0.4, 0.6, 1].map((x) => expect.closeTo(x, 15)),
  )
})

test("slow start shifts steps as well as shares: the first fall counts from its end", () => {
  const schedule = slowStart(step({ stepSize: 20, gamma: 0.5 }), { until: 10, rate: 0.1 })
  expect([9, 10, 29, 30].map((k) => ofSteps(schedule, k, 100))).toEqual([0.1, 1, 1, 0.5])
})

test("a share works under a time budget, and in steps where their number is known", () => {
  const schedule = slowStart(poly({ power: 1 }), { until: 0.2, rate: 0.05 })
  expect([0, 0.19, 0.2, 0.6, 1].map((x) => at(schedule, x))).toEqual(
    [0.05, 0.05, 1, 0.5, 0].map((x) => expect.closeTo(x, 15)),
  )
  expect([0, 1, 2, 6, 10].map((k) => ofSteps(schedule, k, 10))).toEqual(
    [0.05, 0.05, 1, 0.5, 0].map((x) => expect.closeTo(x, 15)),
  )
  expect(ofSteps(slowStart(constant(), { until: 0.01, rate: 0 }), 0, 10)).toBe(1) // less than half a step is none
  expect(() => at(slowStart(poly(), { until: 50, rate: 0.05 }), 0.1)).toThrow(/Give it as a share of the run/)
})

test("an unknown schedule, one that lacks an option, and one that does not take it", () => {
  expect(() => createSchedule("poli")).toThrow('Unknown schedule "poli". Did you mean "poly"?')
  expect(() => createSchedule("step")).toThrow("This schedule wants stepSize")
  expect(() => createSchedule("multi-step")).toThrow("This schedule wants milestones")
  expect(() => createSchedule("warm-restarts")).toThrow("This schedule wants restartEvery")
  expect(() => createSchedule("cosine", { power: 2 })).toThrow(
    "The schedule cosine takes no power. It takes: end, decaySteps.",
  )
})
