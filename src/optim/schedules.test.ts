import { expect, test } from "vitest"
import { UserError } from "../errors.ts"
import { type Schedule, scheduleNames, schedules, warmup } from "./index.ts"

const at = (schedule: Schedule, progress: number) => schedule({ progress, step: 0 })

test("values worked by hand", () => {
  expect(at(schedules.constant(), 0.7)).toBe(1)
  expect(at(schedules.poly({ power: 2 }), 0.5)).toBe(0.25)
  expect(at(schedules.poly(), 0.5)).toBeCloseTo(0.5358867, 7) // 2^-0.9
  expect(at(schedules.poly({ power: 1, end: 0.2 }), 0.5)).toBeCloseTo(0.6, 15)
  expect(at(schedules.cosine(), 1 / 3)).toBeCloseTo(0.75, 15) // cos 60 degrees = 1/2
  expect(at(schedules.cosine({ end: 0.1 }), 0.5)).toBeCloseTo(0.55, 15)
})

test.each(scheduleNames)(
  "%s: starts at 1, never rises, ends at `end`, and holds there when time is overrun",
  (name) => {
    const end = name === "constant" ? 1 : 0.25
    const schedule = schedules[name]({ end })
    const values = Array.from({ length: 101 }, (_, k) => at(schedule, k / 100))
    expect(values[0]).toBe(1)
    expect(values[100]).toBeCloseTo(end, 15)
    for (const [k, value] of values.entries()) expect(value).toBeLessThanOrEqual(values[k - 1] ?? 1)
    expect(at(schedule, 1.01)).toBeCloseTo(end, 15)
  },
)

test("a schedule is the same whether it is run through or entered in the middle", () => {
  const schedule = warmup(schedules.poly(), { until: 0.1 })
  const through = Array.from({ length: 11 }, (_, k) => at(schedule, k / 10))
  for (const k of [7, 3, 10, 0]) expect(at(schedule, k / 10)).toBe(through[k])
})

test("warm-up rises in a line and leaves the rest alone", () => {
  const schedule = warmup(schedules.constant(), { until: 0.2, from: 0.5 })
  expect([0, 0.1, 0.2, 0.9].map((progress) => at(schedule, progress))).toEqual([0.5, 0.75, 1, 1])
  const poly = schedules.poly()
  expect(at(warmup(poly, { until: 0.2 }), 0.1)).toBe(at(poly, 0.1) * 0.5)
  expect(at(warmup(poly, { until: 0.2 }), 0.6)).toBe(at(poly, 0.6))
})

test("no warm-up: until 0 changes nothing", () => {
  expect(at(warmup(schedules.constant(), { until: 0 }), 0)).toBe(1)
  expect(() => warmup(schedules.constant(), { until: 5 })).toThrow(UserError)
})
