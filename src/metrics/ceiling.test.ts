import fc from "fast-check"
import { expect, test } from "vitest"
import { enlargements, oracle } from "./ceiling.ts"

const VOID = 255
const maps = fc
  .record({ width: fc.integer({ min: 1, max: 11 }), height: fc.integer({ min: 1, max: 11 }) })
  .chain(({ width, height }) =>
    fc
      .array(fc.constantFrom(0, 1, 2, VOID), { minLength: width * height, maxLength: width * height })
      .map((labels) => ({ size: { width, height }, truth: Uint8Array.from(labels) })),
  )
const strides = fc.integer({ min: 1, max: 13 })

test("nearest: labels are constant on cells, and no others of that kind have more right pixels", () => {
  fc.assert(
    fc.property(maps, strides, ({ size: { width, height }, truth }, stride) => {
      const labels = oracle(truth, { width, height }, { stride, enlargement: "nearest" })
      for (let top = 0; top < height; top += stride) {
        for (let left = 0; left < width; left += stride) {
          const cell = [...truth.keys()].filter((i) => {
            const [x, y] = [i % width, Math.floor(i / width)]
            return x >= left && x < left + stride && y >= top && y < top + stride
          })
          const said = new Set(cell.map((i) => labels[i]))
          expect(said.size).toBe(1)
          const votes = [0, 1, 2].map((k) => cell.filter((i) => truth[i] === k).length)
          const most = Math.max(...votes)
          if (most > 0) expect(votes[[...said][0] as number]).toBe(most)
          else expect([...said]).toEqual([VOID])
        }
      }
    }),
  )
})

test("at stride 1 the oracle is the truth, and a map of one label survives any stride", () => {
  fc.assert(
    fc.property(maps, strides, fc.constantFrom(...enlargements), ({ size, truth }, stride, enlargement) => {
      expect(oracle(truth, size, { stride: 1, enlargement })).toEqual(truth)
      const plain = truth.map((label) => (label === VOID ? VOID : 2))
      const labels = oracle(plain, size, { stride, enlargement })
      for (const [i, label] of plain.entries()) if (label !== VOID) expect(labels[i]).toBe(2)
    }),
  )
})

test("bilinear: by hand, on a line", () => {
  // Cells of 4: votes for class 1 are 0, 1, 4, for class 0 4, 3, 0. Their centres lie at 1.5, 5.5, 9.5; between the last two
  // the votes for class 1 are 1 + 3 s, for class 0 3 - 3 s: equal at s = 1/3, pixel 6.83.
  const truth = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
  const size = { width: 12, height: 1 }
  expect(oracle(truth, size, { stride: 4, enlargement: "bilinear" })).toEqual(truth)
  expect(oracle(truth, size, { stride: 4, enlargement: "nearest" })).toEqual(
    Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1),
  )
})

test("a stride that is none", () => {
  for (const stride of [0, 1.5, Number.NaN]) {
    expect(() => oracle(Uint8Array.of(0), { width: 1, height: 1 }, { stride, enlargement: "nearest" })).toThrow(
      RangeError,
    )
  }
})
