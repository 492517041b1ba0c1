import fc from "fast-check"
import { expect, test } from "vitest"
import { type Axis, mirrored, planAxis, positionIn } from "./windows.ts"

const plan = (side: number, window: number, overlap: number, { scale = 1, alignCorners = false } = {}) =>
  planAxis(side, { scale, window, overlap, alignCorners })
const starts = ({ spans }: Axis) => spans.map(({ start }) => start)

test("as few windows as have the overlap, at even distances, from one end to the other", () => {
  expect(starts(plan(10, 6, 0.5))).toEqual([0, 2, 4]) // steps of at most 3 over 4 pixels: two
  expect(starts(plan(12, 8, 0.5))).toEqual([0, 4])
  expect(starts(plan(513, 129, 1 / 3))).toEqual([0, 77, 154, 230, 307, 384]) // 384 in steps of at most 86: five of 76.8
  expect(starts(plan(16, 8, 0))).toEqual([0, 8])
  expect(starts(plan(32, 8, 0, { scale: 0.5 }))).toEqual([0, 4, 8]) // a pixel in common at least, so not 0 and 8
  expect(starts(plan(100, 1000, 0.5))).toEqual([0])
})

test("shares worked by hand: windows of 8 have a Gaussian of 1 pixel around their middle", () => {
  const [first, second] = plan(12, 8, 0.5).spans
  expect([first!.from, first!.to, second!.from, second!.to]).toEqual([0, 8, 4, 12])
  // Pixel 5 lies 1.5 from the first one's middle, 3.5, and 2.5 from the second one's, 7.5: e^-1.125 to e^-3.125.
  expect(first!.shares[5]).toBeCloseTo(1 / (1 + Math.exp(-2)), 12)
  expect(second!.shares[1]).toBeCloseTo(1 / (1 + Math.exp(2)), 12)
  expect([...first!.shares.subarray(0, 4)]).toEqual([1, 1, 1, 1])
  expect([...first!.positions]).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
})

test("in a smaller image a window speaks about more pixels, between its own", () => {
  const [first, second] = plan(8, 3, 0.4, { scale: 0.5 }).spans // the scaled image has pixels 0..3
  // Pixel i lies at i / 2 - 0.25, not beyond the ends: 0 0.25 0.75 1.25 1.75 2.25 2.75 3
  expect(first!.start).toBe(0)
  expect([...first!.positions]).toEqual([0, 0.25, 0.75, 1.25, 1.75])
  expect(second!.start).toBe(1)
  expect([second!.from, second!.to]).toEqual([3, 8])
  expect([...second!.positions]).toEqual([0.25, 0.75, 1.25, 1.75, 2])
})

test("positions are those of PyTorch's interpolate", () => {
  expect([0, 1, 2, 3].map((i) => positionIn(i, 4, 8, false))).toEqual([0.5, 2.5, 4.5, 6.5])
  expect([0, 1, 2, 3].map((i) => positionIn(i, 4, 7, true))).toEqual([0, 2, 4, 6])
  expect([0, 1, 2, 3].map((i) => positionIn(i, 4, 2, false))).toEqual([0, 0.25, 0.75, 1])
  expect(positionIn(0, 1, 9, true)).toBe(0)
})

test("with aligned corners sizes are DeepLab's: 513 stays of the form 16 k + 1", () => {
  const sizes = [0.5, 0.75, 1.25, 1.5, 1.75].map((scale) => plan(513, 999, 0, { scale, alignCorners: true }).scaled)
  expect(sizes).toEqual([257, 385, 641, 769, 897])
  expect(plan(375, 999, 0, { scale: 0.5 }).scaled).toBe(188)
  expect(plan(1, 999, 0, { scale: 0.1 }).scaled).toBe(1)
})

const axes = fc
  .record({
    side: fc.integer({ min: 1, max: 90 }),
    window: fc.integer({ min: 2, max: 100 }),
    overlap: fc.double({ min: 0, max: 0.95, noNaN: true }),
    scale: fc.constantFrom(0.25, 0.5, 0.77, 1, 1.5, 3),
    alignCorners: fc.boolean(),
  })
  .map((options) => ({ options, axis: planAxis(options.side, options) }))

test("every pixel is spoken for, by shares that add up to 1, of windows that lie in the image and see it", () => {
  fc.assert(
    fc.property(axes, ({ options, axis }) => {
      const total = new Float64Array(axis.side)
      for (const { start, from, to, positions, shares } of axis.spans) {
        expect(start).toBeGreaterThanOrEqual(0)
        expect(start + axis.length).toBeLessThanOrEqual(axis.scaled)
        expect([positions.length, shares.length]).toEqual([to - from, to - from])
        for (let i = from; i < to; i++) {
          total[i]! += shares[i - from]!
          const position = positionIn(i, axis.side, axis.scaled, options.alignCorners)
          expect(start + positions[i - from]!).toBeCloseTo(position, 9)
          expect(positions[i - from]!).toBeGreaterThanOrEqual(0)
          expect(positions[i - from]!).toBeLessThanOrEqual(axis.length - 1)
        }
      }
      for (const sum of total) expect(sum).toBeCloseTo(1, 9)
    }),
  )
})

test("neighbours have at least the overlap in common", () => {
  fc.assert(
    fc.property(axes, ({ options: { overlap, scale }, axis: { spans, length } }) => {
      if (scale > 1) return // there, windows between two pixels of the image are left out
      for (const [k, { start }] of spans.slice(1).entries()) {
        const common = spans[k]!.start + length - start
        expect(common).toBeGreaterThanOrEqual(Math.min(length - 1, Math.floor(length * overlap)))
      }
    }),
  )
})

test("mirrored, a window speaks about the pixels on the other side, in their order", () => {
  const axis = plan(11, 6, 0.5)
  const both = mirrored(axis)
  for (const [k, { from, to, positions, shares }] of axis.spans.entries()) {
    const other = both.spans[k]!
    for (let i = from; i < to; i++) {
      expect(other.positions[10 - i - other.from]).toBe(positions[i - from])
      expect(other.shares[10 - i - other.from]).toBe(shares[i - from])
    }
  }
})
