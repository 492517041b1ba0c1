import fc from "fast-check"
import { expect, test } from "vitest"
import { UserError } from "../../errors.ts"
import { randomFor } from "../random.ts"
import { randomCrop, resizeToRange } from "./index.ts"
import { type SizeRange, sizeInRange } from "./size-rules.ts"

test.each<[string, [number, number], SizeRange, [number, number]]>([
  ["the shorter side becomes min", [375, 500], { min: 513, max: 1025 }, [513, 684]],
  ["in whichever direction", [500, 375], { min: 513, max: 1025 }, [684, 513]],
  ["the longer side becomes max where it would have more", [100, 400], { min: 300, max: 600 }, [150, 600]],
  ["it reduces too", [1000, 1500], { min: 100, max: 200 }, [100, 150]],
  ["a factor rounds up to a multiple plus 1", [375, 500], { min: 500, max: 1000, factor: 16 }, [513, 673]], // 500x666
  ["what is one already stays", [513, 513], { min: 513, max: 1025, factor: 16 }, [513, 513]],
  ["with a factor max counts as the next lower one", [100, 400], { min: 300, max: 600, factor: 16 }, [161, 593]], // 148x593
  ["never nothing", [1, 4000], { min: 10, max: 100 }, [1, 100]],
])("%s", (_, size, range, expected) => {
  expect(sizeInRange(size, range)).toEqual(expected)
})

test("never above max, and with a factor always a multiple plus 1", () => {
  const side = fc.integer({ min: 1, max: 3000 })
  fc.assert(
    fc.property(side, side, side, side, fc.integer({ min: 1, max: 32 }), (height, width, a, b, factor) => {
      const range = { min: Math.min(a, b), max: Math.max(a, b) }
      expect(Math.max(...sizeInRange([height, width], range))).toBeLessThanOrEqual(range.max)
      const rounded = sizeInRange([height, width], { ...range, factor })
      expect(rounded.map((n) => (n - 1) % factor)).toEqual([0, 0])
      expect(Math.max(...rounded)).toBeLessThanOrEqual(range.max)
    }),
  )
})

test("resizeToRange resizes so, and in front of a random scale the sizes multiply", () => {
  const sample = { id: "", width: 40, height: 30, image: new Uint8Array(3600), mask: new Uint8Array(1200) }
  const whole = resizeToRange({ range: { min: 60, max: 1000 } })(sample, randomFor(0))
  expect([whole.height, whole.width]).toEqual([60, 80])
  const options = { cropSize: [200, 200], range: { min: 60, max: 1000 }, scale: [1.5, 1.5], flip: 0 } as const
  const { mask } = randomCrop(options)(sample, randomFor(0))
  expect(mask.filter((label) => label === 0).length).toBe(90 * 120)
  expect(mask[89 * 200 + 119]).toBe(0)
})

test.each<[SizeRange, string]>([
  [{ min: 0, max: 5 }, "range: got 0 to 5; expected two whole numbers"],
  [{ min: 6, max: 5 }, "range: got 6 to 5"],
  [{ min: 5, max: 6, factor: 0 }, "range: got the factor 0"],
])("refuses %o", (range, message) => {
  expect(() => resizeToRange({ range })).toThrow(UserError)
  expect(() => resizeToRange({ range })).toThrow(message)
  expect(() => randomCrop({ cropSize: [4, 4], range })).toThrow(message)
})
