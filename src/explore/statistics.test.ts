import { describe, expect, test } from "vitest"
import { goldenJson } from "../../tests/parity/golden.ts"
import { type LabelMap, parseLabelMap, selectClasses } from "../data/label-map.ts"
import { countLabels, type MaskFacts } from "./inspect.ts"
import { likeness, mostAlike, printOf } from "./similar.ts"
import { quantile, scoreOfOnly, statisticsOf } from "./statistics.ts"

const golden = goldenJson("explore") as {
  classes: { pixels: number; images: number; pixelsOfItsImages: number; objects: number[]; specks: number }[]
  together: number[][]
  void: number
  hashes: string[]
  mirrored: string[]
  likeness: number[][]
}

const factsOf = (labels: Uint8Array, width: number, height: number, labelMap: LabelMap): MaskFacts => ({
  ...{ width, height, isRgb: false, unknown: [] },
  ...countLabels(labels, { width, height }, labelMap),
})

describe("statistics", () => {
  const { labelMap } = selectClasses(parseLabelMap(["background", "a", "b", "c"], "test"))

  test("equal NumPy's and SciPy's", () => {
    const [width, height] = [37, 23]
    const masks = [0, 1, 2].map((k) =>
      Uint8Array.from({ length: width * height }, (_, i) => {
        const [x, y] = [i % width, Math.floor(i / width)]
        const value = Math.floor((x * x + 3 * y * y + 5 * x * y + 7 * k) / 11) % 5
        return value === 4 ? 255 : value === 3 && k === 2 ? 0 : value
      }),
    )
    const found = statisticsOf(
      masks.map((labels) => factsOf(labels, width, height, labelMap)),
      labelMap,
    )
    expect(found.classes).toMatchObject(golden.classes)
    expect(found.together).toEqual(golden.together)
    expect(found.void).toBe(golden.void)
    expect(found.pixels).toBe(3 * 37 * 23)
    const counted = found.pixels - found.void
    for (const [k, { share }] of found.classes.entries()) expect(share).toBe(golden.classes[k]!.pixels / counted)
  })

  test("of nothing are 0 and null", () => {
    const none = statisticsOf([], labelMap)
    expect(none.classes[1]).toEqual({
      ...{ name: "a", pixels: 0, share: null, images: 0, pixelsOfItsImages: 0, objects: [], specks: 0 },
    })
    expect(scoreOfOnly(0, none)).toBeNull()
  })

  test("saying one class everywhere: worked by hand", () => {
    // 6 of 8 counted pixels are background, and 2 classes occur: IoU 6/8 and 0
    const labels = Uint8Array.of(0, 0, 0, 0, 0, 0, 1, 1, 255, 255)
    const found = statisticsOf([factsOf(labels, 5, 2, labelMap)], labelMap)
    expect(scoreOfOnly(0, found)).toEqual({ pixelAccuracy: 0.75, meanIoU: 0.375 })
  })

  test("a quantile is a value, the last one at most", () => {
    expect([0, 0.5, 0.9, 1].map((share) => quantile([1, 2, 3, 4], share))).toEqual([1, 3, 4, 4])
  })
})

describe("perceptual hash", () => {
  const pictures = [0, 1, 2, 3].map((k) =>
    Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => {
      const [x, y, c] = [Math.floor(i / 3) % 32, Math.floor(i / 96), i % 3]
      return (
        (x * (k + 2) + y * (7 - k) + Math.floor((x * y * (k + 1)) / 8) + 40 * c + Math.floor((x - 9) ** 2 / (k + 3))) %
        256
      )
    }),
  )
  const prints = pictures.map(printOf)
  const bits = ([low, high]: readonly [number, number]) =>
    Array.from({ length: 64 }, (_, i) => ((i < 32 ? low : high) >>> (i % 32)) & 1).join("")

  test("and likeness equal SciPy's", () => {
    expect(prints.map(({ hash }) => bits(hash))).toEqual(golden.hashes)
    expect(prints.map(({ mirrored }) => bits(mirrored))).toEqual(golden.mirrored)
    for (const [a, row] of golden.likeness.entries()) {
      for (const [b, expected] of row.entries()) {
        expect(likeness(prints[a]!, prints[b]!)).toBeCloseTo(expected, 5) // float32 brightness
      }
    }
  })

  test("finds the one that is alike, also in a mirror, brighter and darker, and none else", () => {
    const mirror = Uint8Array.from(pictures[2]!, (_, i) => {
      const x = Math.floor(i / 3) % 32
      return 20 + 0.8 * pictures[2]![i + 3 * (31 - 2 * x)]!
    })
    expect(mostAlike(printOf(mirror), prints)).toBe(2)
    expect(mostAlike(prints[1]!, [prints[0]!, null, prints[2]!, prints[3]!])).toBeNull()
  })
})
