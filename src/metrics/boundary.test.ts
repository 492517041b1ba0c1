import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { bandWidth, contourTolerance, type ImageBoundaries, measureBoundaries } from "./boundary.ts"
import type { ImageSize } from "./image-size.ts"

const VOID = 255

/** A map of one label with rectangles [label, left, top, width, height] on it, the later over the earlier. */
type Rectangle = readonly [label: number, left: number, top: number, width: number, height: number]
function draw(size: ImageSize, ground: number, rectangles: readonly Rectangle[]): Uint8Array {
  const labels = new Uint8Array(size.width * size.height).fill(ground)
  for (const [label, left, top, width, height] of rectangles) {
    for (let y = top; y < Math.min(top + height, size.height); y++) {
      labels.fill(label, y * size.width + left, y * size.width + Math.min(left + width, size.width))
    }
  }
  return labels
}

test("widths: 2 % of the diagonal in whole pixels, a half to the even one; 0.75 % as it is", () => {
  const width = (width: number, height: number) => bandWidth({ width, height })
  expect(width(500, 375)).toBe(12) // 12.5
  expect(width(540, 405)).toBe(14) // 13.5
  expect(width(480, 360)).toBe(12)
  expect(width(2048, 1024)).toBe(46) // 45.8
  expect(width(8, 6)).toBe(1) // 0.2
  expect(contourTolerance({ width: 500, height: 375 })).toBe(4.6875)
})

describe("by hand", () => {
  const size = { width: 100, height: 75 } // band of 2 pixels, tolerance 0.9375
  const measure = (prediction: Uint8Array, truth: Uint8Array) => measureBoundaries(prediction, truth, size, 3)

  test("a square of 20 that is drawn 3 pixels too far to the left", () => {
    const truth = draw(size, 0, [[1, 43, 20, 20, 20]])
    const { counts, hausdorff95 } = measure(draw(size, 0, [[1, 40, 20, 20, 20]]), truth)
    expect(counts[1]).toEqual({
      class: 1,
      // A frame of 2 pixels in a square of 20: 400 - 256. They share, in 17 columns, the two upper and the two lower rows.
      bandBoth: 4 * 17,
      bandEither: 2 * 144 - 4 * 17,
      predicted: 76,
      predictedNear: 2 * 17, // the rest are further than 0.94
      truth: 76,
      truthNear: 2 * 17,
    })
    expect(hausdorff95[1]).toBe(3)
    expect(hausdorff95[2]).toBeNull()
  })

  test("the same map, also one that is void: all right, no distance", () => {
    const truth = draw(size, 0, [
      [1, 10, 10, 30, 30],
      [VOID, 38, 5, 4, 40],
      [2, 90, 60, 10, 15],
    ])
    for (const { counts, hausdorff95 } of [
      measure(truth, truth),
      measure(truth.slice().fill(0), truth.slice().fill(0)),
    ]) {
      for (const entry of counts) {
        expect(entry.bandBoth).toBe(entry.bandEither)
        expect(entry.predictedNear).toBe(entry.predicted)
        expect(entry.truthNear).toBe(entry.truth)
        expect(entry.truth).toBeGreaterThan(0)
        expect(hausdorff95[entry.class]).toBe(0)
      }
    }
    const blank = truth.slice().fill(VOID)
    expect(measure(truth, blank)).toEqual({ counts: [], hausdorff95: [null, null, null] })
  })

  test("the frame is a contour", () => {
    const { counts } = measure(draw(size, 0, []), draw(size, 0, []))
    expect(counts[0]).toMatchObject({ truth: 2 * 100 + 2 * 73, bandEither: 100 * 75 - 96 * 71 })
  })

  test("a missed and an invented object have no distance, and nothing of them is near", () => {
    const { counts, hausdorff95 } = measure(draw(size, 0, [[2, 60, 30, 10, 10]]), draw(size, 0, [[1, 20, 30, 10, 10]]))
    expect(counts.slice(1)).toEqual([
      { class: 1, bandBoth: 0, bandEither: 64, predicted: 0, predictedNear: 0, truth: 36, truthNear: 0 },
      { class: 2, bandBoth: 0, bandEither: 64, predicted: 36, predictedNear: 0, truth: 0, truthNear: 0 },
    ])
    expect(hausdorff95.slice(1)).toEqual([null, null])
  })

  test("an object in a ring of void may end anywhere in the ring", () => {
    const truth = draw(size, 0, [
      [VOID, 17, 17, 26, 26],
      [1, 20, 20, 20, 20],
    ])
    const perfect = measure(truth, truth)
    for (const grown of [0, 1, 2, 3]) {
      const side = 20 + 2 * grown
      expect(measure(draw(size, 0, [[1, 20 - grown, 20 - grown, side, side]]), truth)).toEqual(perfect)
    }
    expect(measure(draw(size, 0, [[1, 16, 16, 28, 28]]), truth)).not.toEqual(perfect)
  })
})

// --- against brute force -------------------------------------------------------------------------------------------

/** All by definition, pixel against pixel. */
function bruteForce(prediction: Uint8Array, truth: Uint8Array, size: ImageSize, classes: number): ImageBoundaries {
  const { width, height } = size
  const predicted = prediction.map((label, i) => (truth[i] === VOID ? VOID : label))
  const at = (labels: Uint8Array, x: number, y: number) =>
    x < 0 || y < 0 || x >= width || y >= height ? -1 : (labels[y * width + x] as number)
  const pixels = Array.from(truth, (_, i) => [i % width, Math.floor(i / width)] as const)
  const contour = (labels: Uint8Array, k: number) =>
    pixels.filter(
      ([x, y]) =>
        at(labels, x, y) === k &&
        [at(labels, x - 1, y), at(labels, x + 1, y), at(labels, x, y - 1), at(labels, x, y + 1)].some((l) => l !== k),
    )
  const reach = bandWidth(size)
  const isBand = (labels: Uint8Array, k: number, [x, y]: readonly [number, number]) => {
    if (at(labels, x, y) !== k) return false
    for (let v = y - reach; v <= y + reach; v++) {
      for (let u = x - reach; u <= x + reach; u++) if (at(labels, u, v) !== k) return true
    }
    return false
  }
  const distances = (from: (readonly [number, number])[], to: (readonly [number, number])[]) =>
    from.map(([x, y]) => Math.sqrt(Math.min(...to.map(([u, v]) => (x - u) ** 2 + (y - v) ** 2))))
  const percentile = (values: number[]) => {
    const sorted = values.toSorted((a, b) => a - b)
    const place = 0.95 * (sorted.length - 1)
    const [low, high] = [sorted[Math.floor(place)] as number, sorted[Math.ceil(place)] as number]
    return low + (high - low) * (place % 1)
  }
  const all = Array.from({ length: classes }, (_, k) => {
    const [p, t] = [contour(predicted, k), contour(truth, k)]
    const [toTruth, toPrediction] = [distances(p, t), distances(t, p)]
    const near = (values: number[]) => values.filter((distance) => distance <= contourTolerance(size)).length
    const bands = pixels.map((pixel) => [isBand(truth, k, pixel), isBand(predicted, k, pixel)])
    return {
      counts: {
        class: k,
        bandBoth: bands.filter(([a, b]) => a && b).length,
        bandEither: bands.filter(([a, b]) => a || b).length,
        predicted: p.length,
        predictedNear: near(toTruth),
        truth: t.length,
        truthNear: near(toPrediction),
      },
      distance: p.length && t.length ? Math.max(percentile(toTruth), percentile(toPrediction)) : null,
    }
  })
  return {
    counts: all.map(({ counts }) => counts).filter(({ predicted, truth }) => predicted + truth > 0),
    hausdorff95: all.map(({ distance }) => distance),
  }
}

const sizes: readonly ImageSize[] = [
  { width: 1, height: 1 },
  { width: 5, height: 1 },
  { width: 1, height: 9 },
  { width: 17, height: 23 },
  { width: 150, height: 20 }, // band of 3, tolerance 1.1
  { width: 20, height: 280 }, // band of 6, tolerance 2.1
]

/** Two maps of one size, the second like the first but for some rectangles, and noise. */
const pairs = fc.constantFrom(...sizes).chain((size) => {
  const rectangle = fc.tuple(
    fc.constantFrom(0, 1, 2, 3, VOID),
    fc.nat(size.width - 1),
    fc.nat(size.height - 1),
    fc.integer({ min: 1, max: size.width }),
    fc.integer({ min: 1, max: size.height }),
  )
  const dot = fc.tuple(fc.nat(3), fc.nat(size.width - 1), fc.nat(size.height - 1), fc.constant(1), fc.constant(1))
  const rectangles = fc.array(rectangle, { maxLength: 6 })
  return fc
    .tuple(rectangles, fc.array(rectangle, { maxLength: 2 }), fc.array(dot, { maxLength: 8 }))
    .map(([common, others, noise]) => ({
      size,
      truth: draw(size, 0, common),
      prediction: draw(size, 0, [...common, ...others, ...noise]).map((label) => (label === VOID ? 1 : label)),
    }))
})

const expectSame = (actual: ImageBoundaries, expected: ImageBoundaries) => {
  expect(actual.counts).toEqual(expected.counts)
  for (const [k, distance] of expected.hausdorff95.entries()) {
    if (distance === null) expect(actual.hausdorff95[k]).toBeNull()
    else expect(actual.hausdorff95[k]).toBeCloseTo(distance, 12)
  }
}

test("bands, contours and distances are those of brute force", () => {
  fc.assert(
    fc.property(pairs, ({ size, truth, prediction }) => {
      expectSame(measureBoundaries(prediction, truth, size, 4), bruteForce(prediction, truth, size, 4))
    }),
    { numRuns: 60 },
  )
})

test("what is predicted at void pixels changes nothing, and no array is written to", () => {
  fc.assert(
    fc.property(pairs, fc.nat(3), ({ size, truth, prediction }, label) => {
      const [before, kept] = [measureBoundaries(prediction, truth, size, 4), prediction.slice()]
      const changed = prediction.map((p, i) => (truth[i] === VOID ? label : p))
      expect(measureBoundaries(changed, truth, size, 4)).toEqual(before)
      expect(prediction).toEqual(kept)
    }),
  )
})

test("truth and prediction change places; other numbers for the classes, other numbers in the same places", () => {
  const order = [2, 0, 3, 1]
  const renumbered = (labels: Uint8Array) => labels.map((label) => order[label] ?? label)
  fc.assert(
    fc.property(pairs, ({ size, truth, prediction }) => {
      const clean = truth.map((label) => (label === VOID ? 3 : label))
      const { counts, hausdorff95 } = measureBoundaries(prediction, clean, size, 4)
      const turned = measureBoundaries(clean, prediction, size, 4)
      expect(turned.hausdorff95).toEqual(hausdorff95)
      expect(
        turned.counts.map(({ predicted, predictedNear, truth, truthNear, ...bands }) => ({
          ...bands,
          predicted: truth,
          predictedNear: truthNear,
          truth: predicted,
          truthNear: predictedNear,
        })),
      ).toEqual(counts)
      const other = measureBoundaries(renumbered(prediction), renumbered(clean), size, 4)
      for (const entry of counts) {
        const k = order[entry.class] as number
        expect(other.counts.find((found) => found.class === k)).toEqual({ ...entry, class: k })
        expect(other.hausdorff95[k]).toBe(hausdorff95[entry.class])
      }
    }),
  )
})
