// What configurations mean for the learning rate, and which of them are refused.
import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { cosine, poly, warmup } from "../optim/index.ts"
import { parseConfig } from "./config.ts"
import { initialStatisticsNotice, optimisationNotices, scheduleOf, warmupOf } from "./optimisation.ts"

const config = (changes: Record<string, unknown> = {}) => ({
  ...parseConfig({ data: "none", steps: 1000, ...changes }),
  learningRate: (changes.learningRate as number) ?? 0.01,
})
const rates = (changes: Record<string, unknown>, at: readonly number[], steps = 1000) => {
  const { learningRate } = config(changes)
  const schedule = scheduleOf(config(changes), steps)
  return at.map((step) => learningRate * schedule({ progress: step / steps, step, steps }))
}

test("left to itself: poly 0.9 after a warm-up of 3 %, to the bit as ever", () => {
  const before = warmup(poly(), { until: 0.03, from: 0.01 })
  const schedule = scheduleOf(config())
  for (let step = 0; step <= 1000; step++) {
    const at = { progress: step / 1000, step }
    expect(schedule(at)).toBe(before(at))
  }
  const cosines = warmup(cosine(), { until: 0.1, from: 0.01 })
  const chosen = scheduleOf(config({ schedule: "cosine", warmup: 0.1 }))
  for (const progress of [0, 0.05, 0.1, 0.5, 1])
    expect(chosen({ progress, step: 0 })).toBe(cosines({ progress, step: 0 }))
})

test("TensorFlow's DeepLab: slow start, then poly over the rest", () => {
  const deepLab = { learningRate: 0.007, slowStart: 100, slowStartLearningRate: 1e-4 }
  expect(rates(deepLab, [0, 99, 100, 550, 1000])).toEqual([
    expect.closeTo(1e-4, 15),
    expect.closeTo(1e-4, 15),
    0.007,
    expect.closeTo(0.007 * 0.5 ** 0.9, 15),
    0,
  ])
  expect(warmupOf(config(deepLab))).toBe(0)
})

test("its Adam, which ignores both", () => {
  const adam = { optimizer: "adam", learningRate: 1e-3, eps: 1e-8, schedule: "constant", warmup: 0 }
  expect(rates(adam, [0, 1, 500, 999, 1000])).toEqual([1e-3, 1e-3, 1e-3, 1e-3, 1e-3])
})

test("rates of the configuration are rates, not factors", () => {
  expect(rates({ endLearningRate: 1e-3, warmup: 0 }, [0, 1000])).toEqual([0.01, expect.closeTo(1e-3, 15)])
  expect(rates({ slowStart: 0.1, slowStartLearningRate: 2e-3, slowStartForm: "linear" }, [0, 50, 100])).toEqual([
    expect.closeTo(2e-3, 15),
    expect.closeTo(6e-3, 15),
    0.01,
  ])
  expect(rates({ schedule: "step", stepSize: 250, warmup: 0 }, [249, 250, 500, 999])).toEqual(
    [1e-2, 1e-3, 1e-4, 1e-5].map((rate) => expect.closeTo(rate, 15)),
  )
  expect(rates({ schedule: "one-cycle" }, [0, 300, 1000])).toEqual(
    [4e-4, 0.01, 4e-8].map((rate) => expect.closeTo(rate, 15)),
  )
})

test.each([
  [{ power: 2, schedule: "cosine" }, "power does nothing in the schedule cosine; there are: poly."],
  [{ stepSize: 5 }, "stepSize does nothing in the schedule poly; there are: step."],
  [{ gamma: 0.5 }, "gamma does nothing in the schedule poly; there are: step, multi-step."],
  [{ schedule: "constant", endLearningRate: 0 }, "endLearningRate does nothing in the schedule constant"],
  [
    { schedule: "step" },
    "stepSize is missing: the schedule step wants a number of steps, or a share of the run below 1.",
  ],
  [{ schedule: "multi-step" }, "milestones is missing"],
  [{ schedule: "warm-restarts" }, "restartEvery is missing"],
  [{ slowStartLearningRate: 1e-4 }, "slowStartLearningRate is about slowStart, which is not given."],
  [{ slowStartForm: "linear" }, "slowStartForm is about slowStart, which is not given."],
  [{ slowStart: 10, warmup: 0.1 }, "warmup and slowStart both say how the run begins: give one."],
  [{ schedule: "one-cycle", warmup: 0.1 }, "warmup and one-cycle both say how the run begins: give one."],
  [{ slowStart: 10.5 }, "slowStart is 10.5: expected a whole number of steps, or a share below 1."],
  [{ nesterov: true }, "nesterov is for sgd; adamw has no such momentum."],
  [{ momentum: 0.9 }, "momentum is for sgd; adamw has no such thing."],
  [{ optimizer: "sgd", nesterov: true, momentum: 0 }, "nesterov looks ahead along the momentum, which is 0."],
  [{ optimizer: "sgd", betas: [0.9, 0.99] }, "betas is for adam, adamw and lion; sgd has one momentum."],
  [{ optimizer: "lion", eps: 1e-8 }, "eps is for adam and adamw; lion divides by nothing."],
  [
    { biasMultiplier: 2 },
    "biasMultiplier wants multiplierForm: what it multiplies, the gradient or the (learning) rate.",
  ],
  [{ lastLayerMultiplier: 10 }, "lastLayerMultiplier wants multiplierForm"],
  [
    { multiplierForm: "rate" },
    "multiplierForm is about biasMultiplier 1 and lastLayerMultiplier 1, which change nothing.",
  ],
  [{ lastLayers: "logits" }, "lastLayers is about lastLayerMultiplier, which is 1 and changes nothing."],
  [
    { lastLayerMultiplier: 10, multiplierForm: "rate", headRate: 8 },
    "headRate and lastLayerMultiplier are both factors of all but the encoder: give one.",
  ],
  [{ decayExempt: "deeplab", weightDecay: 0 }, "decayExempt leaves parameters out of a weight decay that is 0."],
])("%o is refused", (changes, message) => {
  const parse = () => parseConfig({ data: "none", steps: 1000, ...changes }, (key) => key)
  expect(parse).toThrow(UserError)
  expect(parse).toThrow(message)
})

test.each([
  ["decaySteps", { decaySteps: 500 }, { decaySteps: 0.5 }],
  ["stepSize", { schedule: "step", stepSize: 2000 }, { schedule: "step", stepSize: 0.3 }],
  [
    "milestones",
    { schedule: "multi-step", milestones: [0.5, 700] },
    { schedule: "multi-step", milestones: [0.5, 0.7] },
  ],
  ["restartEvery", { schedule: "warm-restarts", restartEvery: 50 }, { schedule: "warm-restarts", restartEvery: 0.25 }],
  ["slowStart", { slowStart: 50 }, { slowStart: 0.05 }],
])("%s under a time budget: shares only, since its steps are not known", (key, counts, shares) => {
  for (const length of [{}, { budget: "10m" }]) {
    expect(() => parseConfig({ data: "none", ...length, ...counts }, (name) => name)).toThrow(
      new RegExp(`^${key} is \\d+ steps, but how many steps a time budget allows is not known before`),
    )
    const parsed = { ...parseConfig({ data: "none", ...length, ...shares }), learningRate: 0.01 }
    expect(scheduleOf(parsed)({ progress: 0.4, step: 123 })).toBeGreaterThan(0)
  }
  for (const length of [{ steps: 1000 }, { epochs: 3 }]) parseConfig({ data: "none", ...length, ...counts })
})

test("rates and lengths that contradict each other", () => {
  expect(() => scheduleOf(config({ endLearningRate: 0.02 }))).toThrow(
    "endLearningRate is 0.02, above the learning rate 0.01",
  )
  expect(() => scheduleOf(config({ slowStart: 100 }), 100)).toThrow(
    "slowStart is 100 steps and the run has 100: its schedule would never begin.",
  )
  // a share is rounded to whole steps, and may become all of a short run
  for (const [slowStart, steps] of [
    [0.75, 2],
    [0.96, 10],
  ] as const) {
    expect(() => scheduleOf(config({ slowStart }), steps)).toThrow(
      `slowStart is ${slowStart}, ${steps} steps and the run has ${steps}: its schedule would never begin.`,
    )
  }
})

test("a configuration that was written out is read back: the options say the same twice", () => {
  for (const changes of [{}, { slowStart: 0.1 }, { schedule: "one-cycle" }, { weights: "resnet50" }]) {
    const first = parseConfig({ data: "none", ...changes })
    const stored = { ...first, warmup: warmupOf(first) }
    expect(parseConfig(JSON.parse(JSON.stringify(stored)))).toEqual(stored)
  }
})

test("notices: gradient factors that cancel, statistics that stay", () => {
  const multipliers = { biasMultiplier: 2, multiplierForm: "gradient" }
  expect(optimisationNotices(config(multipliers))).toEqual([expect.stringContaining("the multipliers nearly cancel")])
  expect(optimisationNotices(config({ ...multipliers, optimizer: "sgd" }))).toEqual([])
  expect(optimisationNotices(config({ ...multipliers, multiplierForm: "rate" }))).toEqual([])
  // The protocol's figure: 55 % after 2000 steps at 0.9997.
  expect(initialStatisticsNotice(0.0003, 2000)).toContain(
    "55 % of the running statistics are still the initial ones after 2000",
  )
  expect(initialStatisticsNotice(0.0003, 2310)).toContain("50 %")
  expect(initialStatisticsNotice(0.0003, 2311)).toBeNull() // ln 2 / 0.0003 = 2310
  expect(initialStatisticsNotice(1, 1)).toBeNull()
})
