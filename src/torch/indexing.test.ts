// x.at(...) against Python's x[...]: cases worked by hand, and the same indices on nested JavaScript arrays.
import fc from "fast-check"
import { expect, test } from "vitest"
import { arange, type Index, type NestedNumbers, ShapeError, slice, tensor, tidy } from "./index.ts"

const x234 = () => arange(24).reshape([2, 3, 4])

test("numbers, slices, null and ... (expected: Python's x[...])", () =>
  tidy(() => {
    const x = x234()
    const cases: [Index[], NestedNumbers][] = [
      [[1, 2, 3], 23], // x[1, 2, 3]
      [[-1, -1, -1], 23],
      [
        [0, slice(1, 3), 0],
        [4, 8],
      ], // x[0, 1:3, 0]
      [
        [1, "...", 0],
        [12, 16, 20],
      ], // x[1, ..., 0]
      [
        ["...", -1, slice(2)],
        [
          [10, 11],
          [22, 23],
        ],
      ], // x[..., -1, 2:]
      [
        [0, 0, slice(undefined, -2)],
        [0, 1],
      ], // x[0, 0, :-2]
      [
        [0, 0, slice(0, 4, 3)],
        [0, 3],
      ], // x[0, 0, 0:4:3]
      [[0, 0, slice(3, 1)], []], // empty, not an error
      [
        [0, 0, slice(-100, 100)],
        [0, 1, 2, 3],
      ], // ends are clipped
      [[null, 1, 1, 1], [17]],
      [[1, null, 1, null, 1], [[17]]],
      [[1, "...", 1, 1], 17], // "..." may stand for nothing
    ]
    for (const [indices, expected] of cases) expect(x.at(...indices).toArray()).toEqual(expected)
    expect(x.at().shape).toEqual([2, 3, 4])
    expect(x.at(slice(0, 1)).shape).toEqual([1, 3, 4])
    expect(tensor(5).at("...").item()).toBe(5)
    expect(tensor(5).at(null).shape).toEqual([1])
  }))

test("without tensors it is a view, with tensors a copy; the result is always a fresh handle", () =>
  tidy(() => {
    const x = x234()
    x.at(0, slice(0, 2), 1).fill_(-1)
    expect(x.at(0, "...", 1).toArray()).toEqual([-1, -1, 9])
    x.at(tensor([0], { dtype: "int64" })).fill_(7)
    expect(x.at(0, 0, 0).item()).toBe(0)
    expect(x.at()).not.toBe(x)
  }))

test("tensors pick elements, masks as many axes as they have (expected: Python's x[...])", () =>
  tidy(() => {
    const x = x234()
    const picks = tensor([2, 0], { dtype: "int64" })
    expect(x.at(0, picks, 1).toArray()).toEqual([9, 1]) // x[0, [2, 0], 1]
    expect(x.at(slice(), picks).shape).toEqual([2, 2, 4])
    expect(x.at("...", picks).shape).toEqual([2, 3, 2])
    expect(x.at(1, picks, picks).toArray()).toEqual([22, 12]) // pairs (2, 2) and (0, 0)
    expect(x.at(x.gt(20)).toArray()).toEqual([21, 22, 23])
    expect(x.at(1, tensor([1, 0, 1], { dtype: "bool" }), 0).toArray()).toEqual([12, 20])
    expect(x.at(tensor([0, 1], { dtype: "bool" }), "...", 0).toArray()).toEqual([[12, 16, 20]])
    expect(() => x.at(tensor([5], { dtype: "int64" }))).toThrow(/out of bounds/)
    expect(() => x.at(tensor([0.5]))).toThrow(/tensors used as indices must be/)
    expect(() => x.at(tensor([1, 0, 1], { dtype: "bool" }))).toThrow(/mask .* does not match/)
  }))

test("too many indices, two ..., positions outside, steps below 1 and strange values are errors", () =>
  tidy(() => {
    const x = x234()
    expect(() => x.at(0, 0, 0, 0)).toThrow(ShapeError)
    expect(() => x.at("...", "...")).toThrow(ShapeError)
    expect(() => x.at(2)).toThrow(/index 2 out of range/)
    expect(() => x.at(slice(0, 1, 0))).toThrow(/step must be positive/)
    expect(() => x.at(slice(0, 1, -1))).toThrow(/step must be positive/)
    expect(() => x.at(0.5)).toThrow(/expected an integer/)
    for (const wrong of [undefined, "x", {}, true, 1n, Symbol("i")]) expect(() => x.at(wrong as never)).toThrow(Error)
  }))

// Python's rules on nested arrays.
function pick(value: NestedNumbers, [first, ...rest]: Index[]): NestedNumbers {
  if (first === undefined) return value
  if (first === null) return [pick(value, rest)]
  const rows = value as NestedNumbers[]
  if (typeof first === "number") return pick(rows.at(first) as NestedNumbers, rest)
  const { start, end, step } = first as ReturnType<typeof slice>
  return rows
    .slice(start, end)
    .filter((_, k) => k % step === 0)
    .map((row) => pick(row, rest))
}

test("property: any mix of numbers, slices and null gives what nested arrays give", () => {
  const shape = [3, 4, 2]
  const number = (size: number) => fc.integer({ min: -size, max: size - 1 })
  const end = (size: number) => fc.option(fc.integer({ min: -size - 2, max: size + 2 }), { nil: undefined })
  const along = (size: number): fc.Arbitrary<Index[]> =>
    fc
      .tuple(
        fc.array(fc.constant(null), { maxLength: 1 }),
        fc.oneof(
          number(size),
          fc.tuple(end(size), end(size), fc.integer({ min: 1, max: 3 })).map((s) => slice(...s)),
        ),
      )
      .map(([axes, i]) => [...axes, i])
  const indices = fc.tuple(...shape.map(along), fc.integer({ min: 0, max: 3 })).map((parts) => {
    const used = parts.slice(0, parts.at(-1) as number) as Index[][]
    return used.flat()
  })
  fc.assert(
    fc.property(indices, (list) =>
      tidy(() => {
        const x = arange(24).reshape(shape)
        expect(x.at(...list).toArray()).toEqual(pick(x.toArray(), list))
      }),
    ),
    { seed: 1, numRuns: 500 },
  )
})
