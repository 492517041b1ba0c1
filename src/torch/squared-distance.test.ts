// native/distance-transform.cc against all pairs of pixels.
import fc from "fast-check"
import { afterEach, expect, test } from "vitest"
import {
  aten,
  Generator,
  type NestedNumbers,
  OpError,
  ones,
  rand,
  setThreads,
  squaredDistance,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from "./index.ts"

const mask = (values: NestedNumbers): Tensor => tensor(values).gt(0)

/** Of one plane, row by row. */
function byAllPairs(pixels: readonly boolean[], width: number): number[] {
  return pixels.map((kind, i) => {
    let nearest = Number.POSITIVE_INFINITY
    for (const [j, other] of pixels.entries()) {
      if (other === kind) continue
      const [down, right] = [Math.floor(i / width) - Math.floor(j / width), (i % width) - (j % width)]
      nearest = Math.min(nearest, down * down + right * right)
    }
    return nearest === Number.POSITIVE_INFINITY ? 0 : nearest
  })
}

afterEach(() => setThreads(1))

test("a value worked by hand", () => {
  const squared = squaredDistance(
    mask([
      [0, 0, 0, 0],
      [0, 1, 1, 1],
      [0, 1, 1, 1],
      [0, 1, 1, 1],
    ]),
  )
  expect(squared.dtype).toBe("int32")
  expect(squared.toArray()).toEqual([
    [2, 1, 1, 1],
    [1, 1, 1, 1],
    [1, 1, 4, 4],
    [1, 1, 4, 9],
  ])
})

test("random masks of any size and density, many planes at once, with several threads", () => {
  const size = fc.integer({ min: 1, max: 20 })
  const seeds = fc.integer({ min: 0, max: 1e6 })
  const share = fc.double({ min: 0, max: 1, noNaN: true })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), size, size, share, seeds, (n, h, w, inside, seed) => {
      setThreads((seed % 3) + 1)
      tidy(() => {
        const planes = rand([n, h, w], { generator: new Generator(seed) }).lt(inside)
        const expected = Array.from({ length: n }, (_, k) =>
          byAllPairs([...planes.select(0, k).data()].map(Boolean), w),
        )
        expect(Array.from(squaredDistance(planes).data(), Number)).toEqual(expected.flat())
      })
    }),
    { numRuns: 200 },
  )
})

test("far apart: one pixel in a corner of a large plane", () => {
  tidy(() => {
    const pixels = zeros([700, 900]).gt(0)
    pixels.at(699, 0).fill_(1)
    const squared = squaredDistance(pixels)
    expect(squared.at(0, 899).item()).toBe(699 ** 2 + 899 ** 2)
    expect(squared.at(699, 0).item()).toBe(1)
    // The longest side there can be: its square still fits.
    const line = zeros([32767, 1]).gt(0)
    line.at(0).fill_(1)
    expect(squaredDistance(line).max().item()).toBe(32766 ** 2)
    expect(squaredDistance(line.transpose(0, 1)).max().item()).toBe(32766 ** 2)
  })
})

test("all inside or all outside is 0: there is no other side", () => {
  tidy(() => {
    for (const plane of [ones([3, 5]).gt(0), zeros([3, 5]).gt(0)])
      expect(squaredDistance(plane).data()).toEqual(new Int32Array(15))
    // next to a plane that has both
    const two = mask([[[1, 1]], [[1, 0]]])
    expect(squaredDistance(two).data()).toEqual(Int32Array.of(0, 0, 1, 1))
  })
})

test("any leading axes and strides; no pixels give none", () => {
  tidy(() => {
    const pixels = rand([2, 3, 8, 6]).gt(0.7)
    const squared = squaredDistance(pixels)
    expect(squared.shape).toEqual([2, 3, 8, 6])
    expect(squaredDistance(pixels.at(1, 2)).data()).toEqual(squared.at(1, 2).data())
    const turned = squaredDistance(pixels.transpose(2, 3)).transpose(2, 3)
    expect(aten.equal(turned, squared)).toBe(true)
    const sideBySide = pixels.contiguous({ memoryFormat: "channels_last" })
    expect(aten.equal(squaredDistance(sideBySide), squared)).toBe(true)
    for (const shape of [
      [0, 4],
      [4, 0],
      [0, 4, 4],
      [2, 0, 3],
    ])
      expect(squaredDistance(zeros(shape).gt(0)).shape).toEqual(shape)
  })
})

test("what does not fit is an error", () => {
  tidy(() => {
    expect(() => squaredDistance(ones([3, 3]))).toThrow(/expected a bool mask \[..., H, W\], got Float \[3, 3\]/)
    expect(() => squaredDistance(ones([3]).gt(0))).toThrow(OpError)
    expect(() => squaredDistance(zeros([1, 1]).gt(0).expand([32768, 1]))).toThrow(/at most 32767/)
  })
})
