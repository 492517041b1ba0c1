import { expect, test } from "vitest"
import { arange } from "../torch/index.ts"
import { fitTo } from "./index.ts"

test("fitTo crops at the bottom and the right, and repeats the last row and column where something is missing", () => {
  const x = arange(6).view([1, 1, 2, 3]) // 0 1 2 / 3 4 5
  expect(fitTo(x, [1, 2]).toArray()).toEqual([[[[0, 1]]]])
  expect(fitTo(x, [3, 4]).toArray()).toEqual([
    [
      [
        [0, 1, 2, 2],
        [3, 4, 5, 5],
        [3, 4, 5, 5],
      ],
    ],
  ])
  expect(fitTo(x, [1, 5]).toArray()).toEqual([[[[0, 1, 2, 2, 2]]]])
  const same = fitTo(x, [2, 3])
  expect(same).not.toBe(x)
  expect(same.toArray()).toEqual(x.toArray())
})
