import { expect, test } from "vitest"
import { CalibrationCounter } from "./calibration.ts"

const VOID = 255
const calibrationOf = (pixels: readonly [prediction: number, truth: number, confidence: number][]) => {
  const counter = new CalibrationCounter()
  counter.add(
    Uint8Array.from(pixels, ([prediction]) => prediction),
    Uint8Array.from(pixels, ([, truth]) => truth),
    Float32Array.from(pixels, ([, , confidence]) => confidence),
  )
  return counter.calibration()
}

test("by hand: three pixels at 75 % of which one is right, one at 1 that is; void counts nowhere", () => {
  const { bins, ece } = calibrationOf([
    [1, 1, 0.75],
    [1, 0, 0.75],
    [1, 0, 0.75],
    [0, 0, 1],
    [0, VOID, 0.1],
  ])
  expect(bins).toHaveLength(15)
  expect(bins[11]).toEqual({ low: 11 / 15, high: 12 / 15, pixels: 3, confidence: 0.75, accuracy: 1 / 3 })
  expect(bins[14]).toEqual({ low: 14 / 15, high: 1, pixels: 1, confidence: 1, accuracy: 1 })
  expect(bins[1]).toEqual({ low: 1 / 15, high: 2 / 15, pixels: 0, confidence: null, accuracy: null })
  expect(ece).toBeCloseTo((3 / 4) * (0.75 - 1 / 3), 14)
})

test("the ends of the scale have bins; nothing counted is no error of calibration", () => {
  const { bins } = calibrationOf([
    [0, 0, 0],
    [0, 0, 1.00001], // rounding
  ])
  expect(bins.map(({ pixels }) => pixels)).toEqual([1, ...Array(13).fill(0), 1])
  expect(calibrationOf([[0, VOID, 0.5]]).ece).toBeNull()
})

test("images add up", () => {
  const counter = new CalibrationCounter()
  for (const confidence of [0.2, 0.9]) counter.add(Uint8Array.of(0), Uint8Array.of(0), Float32Array.of(confidence))
  expect(counter.calibration()).toEqual(
    calibrationOf([
      [0, 0, 0.2],
      [0, 0, 0.9],
    ]),
  )
})

test.each([Number.NaN, -0.1, 1.1])("a confidence of %s is refused with its place, and nothing is counted", (bad) => {
  const counter = new CalibrationCounter()
  const add = () => counter.add(Uint8Array.of(0, 0), Uint8Array.of(0, VOID), Float32Array.of(0.5, bad))
  expect(add).toThrow(/the confidence at pixel 1 is .+; expected 0 to 1/)
  expect(counter.calibration().ece).toBeNull()
})
