import { describe, expect, test } from "vitest"
import { permutation, randomFor } from "./random.ts"

describe("randomFor", () => {
  test("the same key gives the same numbers: a stream on disk must mean the same tomorrow", () => {
    const random = randomFor(1, 2, 3)
    const drawn = [random.uniform(), random.int(0, 999), random.chance(0.5), random.uniform(-2, 2)]
    const again = randomFor(1, 2, 3)
    expect([again.uniform(), again.int(0, 999), again.chance(0.5), again.uniform(-2, 2)]).toEqual(drawn)
    expect(drawn).toMatchInlineSnapshot(`
      [
        0.655024348648512,
        478,
        true,
        0.9907075318346683,
      ]
    `) // this file is its own generator; a change here breaks exact resume of old runs
  })

  test("neighbouring keys, orders and lengths give unrelated first numbers", () => {
    const keys = [[0], [0, 0], [0, 0, 0], [1, 2], [2, 1], [2 ** 32], [2 ** 40], [-1], [1, 2 ** 33, 3]]
    expect(new Set(keys.map((key) => randomFor(...key).uniform())).size).toBe(keys.length)

    // Correlation of the first number over 4,000 neighbouring samples, epochs and seeds; 5 sigma is 5 / sqrt(4000) = 0.08.
    const first = (seed: number, epoch: number, sample: number) => randomFor(seed, epoch, sample).uniform() - 0.5
    const steps: [number, number, number][] = [
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ]
    for (const [a, b, c] of steps) {
      let sum = 0
      for (let i = 0; i < 4000; i++)
        sum += first(a * i, b * i, c * i) * first(a * (i + 1), b * (i + 1), c * (i + 1)) * 12
      expect(Math.abs(sum / 4000)).toBeLessThan(0.08)
    }
  })

  test("numbers are uniform over keys and within one key", () => {
    const counts = (draw: (i: number) => number) => {
      const bins = new Array<number>(10).fill(0)
      for (let i = 0; i < 10_000; i++) bins[Math.floor(draw(i) * 10)]! += 1
      return bins
    }
    const random = randomFor(7)
    for (const bins of [counts((i) => randomFor(42, 0, i).uniform()), counts(() => random.uniform())]) {
      for (const n of bins) expect(Math.abs(n - 1000)).toBeLessThan(150) // 5 sigma: sqrt(10000 * 0.1 * 0.9) = 30
    }
  })

  test("int reaches both ends, chance keeps 0 and 1", () => {
    const random = randomFor(3)
    const drawn = new Set(Array.from({ length: 200 }, () => random.int(-1, 2)))
    expect([...drawn].sort((a, b) => a - b)).toEqual([-1, 0, 1, 2])
    for (let i = 0; i < 100; i++) expect([random.chance(0), random.chance(1)]).toEqual([false, true])
  })

  test("a key that is no integer is refused", () => {
    expect(() => randomFor(0.5)).toThrow("got the key 0.5, expected an integer")
    expect(() => randomFor(Number.NaN)).toThrow(RangeError)
  })
})

describe("permutation", () => {
  test("holds every number once, and all 6 orders of 3 come equally often", () => {
    expect([...permutation(100, randomFor(1))].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i))
    const counts = new Map<string, number>()
    for (let i = 0; i < 6000; i++) {
      const order = permutation(3, randomFor(9, i)).join("")
      counts.set(order, (counts.get(order) ?? 0) + 1)
    }
    expect(counts.size).toBe(6)
    for (const n of counts.values()) expect(Math.abs(n - 1000)).toBeLessThan(145) // 5 sigma: sqrt(6000 / 6 * 5 / 6) = 29
  })
})
