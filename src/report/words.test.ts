import { expect, test } from "vitest"
import { clock, duration, inferenceText, list, percent, range } from "./words.ts"

test.each([
  [0.4, "0:00", "0 s"],
  [51, "0:51", "51 s"],
  [591, "9:51", "9 min 51 s"],
  [7500, "2:05:00", "2 h 5 min"],
])("%d seconds", (seconds, digits, words) => {
  expect([clock(seconds), duration(seconds)]).toEqual([digits, words])
})

test("how a model was applied", () => {
  expect(inferenceText({ scales: [0.5, 1], flip: true })).toBe("averaged over the scales 0.5, 1 and mirrored images")
  expect(inferenceText({ window: [256, 320], overlap: 0.25 })).toBe("in windows of 256x320, with an overlap of 0.25")
  expect(inferenceText({ window: null, memory: 2 ** 30 })).toBe("whole images in any case, within 1024 MiB")
})

test("shares, intervals and lists, also of nothing", () => {
  expect([percent(0.5455), percent(null)]).toEqual(["54.5", "-"])
  expect([range({ low: 0.489, high: 0.598 }), range({ low: null, high: 1 })]).toEqual(["48.9 to 59.8", "-"])
  expect([list([]), list(["a"]), list(["a", "b", "c"])]).toEqual(["", "a", "a, b and c"])
})
