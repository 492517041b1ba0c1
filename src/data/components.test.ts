import fc from "fast-check"
import { expect, test } from "vitest"
import goldenJson from "../../tests/data/components.json" with { type: "json" }
import { connectedComponents } from "./components.ts"

interface Golden {
  readonly width: number
  readonly height: number
  readonly labels: readonly number[]
  readonly by4: { readonly ids: readonly number[]; readonly components: readonly unknown[] }
  readonly by8: { readonly ids: readonly number[]; readonly components: readonly unknown[] }
}
const golden = Object.entries(goldenJson) as unknown as [string, Golden][]

test.each(golden)("%s: equal to SciPy's, with 4 and with 8 neighbours", (_, { width, height, labels, by4, by8 }) => {
  for (const [connectivity, expected] of [[4, by4] as const, [8, by8] as const]) {
    const { ids, components } = connectedComponents(Uint8Array.from(labels), { width, height }, { connectivity })
    expect(Array.from(ids)).toEqual(expected.ids)
    expect(components).toEqual(expected.components)
  }
})

test("worked by hand: a diagonal joins with 8 neighbours only", () => {
  // 1 0 0
  // 0 1 V
  const labels = Uint8Array.of(1, 0, 0, 0, 1, 255)
  const size = { width: 3, height: 2 }
  expect(connectedComponents(labels, size, { connectivity: 8 })).toEqual({
    ids: Int32Array.of(0, 1, 1, 1, 0, -1),
    components: [
      { label: 1, pixels: 2, box: [0, 0, 2, 2] },
      { label: 0, pixels: 3, box: [0, 0, 3, 2] },
    ],
  })
  expect(connectedComponents(labels, size, { connectivity: 4 }).components.map(({ pixels }) => pixels)).toEqual([
    1, 2, 1, 1,
  ])
})

test("ignored labels: void when nothing is said, others on request, none", () => {
  const labels = Uint8Array.of(0, 255, 7)
  const of = (ignore?: readonly number[]) =>
    Array.from(connectedComponents(labels, { width: 3, height: 1 }, { ignore }).ids)
  expect(of()).toEqual([0, -1, 1])
  expect(of([0, 7])).toEqual([-1, 0, -1])
  expect(of([])).toEqual([0, 1, 2])
})

/** A flood from each pixel that has none yet, row by row. */
function byFlood(labels: ArrayLike<number>, width: number, reachable: (dx: number, dy: number) => boolean) {
  const ids = new Array<number>(labels.length).fill(-1)
  const sizes: number[] = []
  for (let start = 0; start < labels.length; start++) {
    if (ids[start] !== -1) continue
    ids[start] = sizes.length
    const members = [start]
    for (const at of members) {
      for (let other = 0; other < labels.length; other++) {
        const [dx, dy] = [(other % width) - (at % width), Math.floor(other / width) - Math.floor(at / width)]
        if (ids[other] !== -1 || labels[other] !== labels[start] || !reachable(Math.abs(dx), Math.abs(dy))) continue
        ids[other] = sizes.length
        members.push(other)
      }
    }
    sizes.push(members.length)
  }
  return { ids, sizes }
}

test("random maps of bytes and of 16-bit numbers, against a flood", () => {
  const side = fc.integer({ min: 1, max: 9 })
  const sized = fc
    .tuple(side, side)
    .chain(([width, height]) =>
      fc.tuple(fc.constant(width), fc.array(fc.nat(2), { minLength: width * height, maxLength: width * height })),
    )
  fc.assert(
    fc.property(sized, ([width, values]) => {
      const size = { width, height: values.length / width }
      for (const connectivity of [4, 8] as const) {
        const expected = byFlood(values, width, (dx, dy) =>
          connectivity === 4 ? dx + dy === 1 : Math.max(dx, dy) === 1,
        )
        for (const labels of [Uint8Array.from(values), Uint16Array.from(values, (value) => 30_000 * value)]) {
          const { ids, components } = connectedComponents(labels, size, { connectivity })
          expect(Array.from(ids)).toEqual(expected.ids)
          expect(components.map(({ pixels }) => pixels)).toEqual(expected.sizes)
        }
      }
    }),
    { numRuns: 300 },
  )
})

test("nothing has no components; sizes that do not fit are named", () => {
  expect(connectedComponents(new Uint8Array(0), { width: 0, height: 0 }).components).toEqual([])
  expect(() => connectedComponents(new Uint8Array(5), { width: 3, height: 2 })).toThrow(
    "connectedComponents: there are 5 labels; expected 3x2 = 6.",
  )
})
