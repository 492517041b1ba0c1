// Every schedule against PyTorch's, before each step of a run of 60, and after its last.
import { expect, test } from "vitest"
import { createSchedule, type ScheduleOptions } from "../../src/optim/index.ts"
import { goldenJson } from "./golden.ts"

const T = 60

// The table of optimisation.py in our words, in steps and in shares of the run.
const schedules: Record<string, { counts: ScheduleOptions; shares: ScheduleOptions }> = {
  constant: { counts: {}, shares: {} },
  poly: { counts: {}, shares: {} },
  "poly, power 2, 40 steps": { counts: { power: 2, decaySteps: 40 }, shares: { power: 2, decaySteps: 40 / T } },
  cosine: { counts: {}, shares: {} },
  "cosine, end": { counts: { end: 0.05 }, shares: { end: 0.05 } },
  step: { counts: { stepSize: 20 }, shares: { stepSize: 20 / T } },
  "step, gamma": { counts: { stepSize: 7, gamma: 0.8 }, shares: { stepSize: 7 / T, gamma: 0.8 } },
  "multi-step": {
    counts: { milestones: [15, 40, 41], gamma: 0.3 },
    shares: { milestones: [15 / T, 40 / T, 41 / T], gamma: 0.3 },
  },
  "one-cycle": { counts: {}, shares: {} },
  "one-cycle, peak and end": { counts: { peakAt: 0.5, end: 0.01 }, shares: { peakAt: 0.5, end: 0.01 } },
  "warm-restarts": { counts: { restartEvery: 15 }, shares: { restartEvery: 0.25 } },
  "warm-restarts, growth and end": {
    counts: { restartEvery: 8, restartGrowth: 2, end: 0.1 },
    shares: { restartEvery: 8 / T, restartGrowth: 2, end: 0.1 },
  },
}

const golden = goldenJson("schedules") as Record<string, number[]>

test("the table has the golden file's schedules", () => {
  expect(Object.keys(golden).filter((name) => name !== "origin")).toEqual(Object.keys(schedules))
})

// Measured: below 1e-15. PyTorch multiplies each rate by a quotient of two neighbours, so its roundings may add up.
const TOLERANCE = 1e-14

test.each(Object.entries(schedules))("%s", (name, { counts, shares }) => {
  for (const options of [counts, shares]) {
    const schedule = createSchedule(name.split(",")[0]!, options)
    for (const [step, expected] of golden[name]!.entries()) {
      const rate = schedule({ progress: step / T, step, steps: T })
      expect(Math.abs(rate - expected), `step ${step}: ${rate}, expected ${expected}`).toBeLessThan(TOLERANCE)
    }
  }
})

test("shares need no steps: the same rates under a time budget", () => {
  for (const [name, { shares }] of Object.entries(schedules)) {
    const schedule = createSchedule(name.split(",")[0]!, shares)
    for (let step = 0; step <= T; step++) {
      const known = schedule({ progress: step / T, step, steps: T })
      expect(schedule({ progress: step / T, step: Number.NaN })).toBe(known)
    }
  }
})
