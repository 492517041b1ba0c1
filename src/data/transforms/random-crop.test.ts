import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { UserError } from "../../errors.ts"
import { randomFor } from "../random.ts"
import type { Sample } from "../voc-folder.ts"
import { type RandomCropOptions, randomCrop, resnetV1, symmetric } from "./index.ts"

/** Background with single pixels of class 1, and a block of class 2. */
function scene(width: number, height: number, ones: readonly (readonly [x: number, y: number])[]): Sample {
  const mask = new Uint8Array(width * height)
  for (let y = 0; y < 3; y++) mask.fill(2, y * width, y * width + Math.min(width, 5))
  for (const [x, y] of ones) mask[y * width + x] = 1
  const image = Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * 7) & 255)
  return { id: "scene", width, height, image, mask }
}

describe("crops on a class", () => {
  test("contain it whenever the scaled picture does, under any scale, alignment and size", () => {
    const cases = fc.record({
      width: fc.integer({ min: 10, max: 90 }),
      height: fc.integer({ min: 10, max: 90 }),
      place: fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.double({ min: 0, max: 0.999, noNaN: true })),
      size: fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 30 })),
      scale: fc.double({ min: 0.3, max: 3, noNaN: true }),
      alignCorners: fc.boolean(),
      seed: fc.nat(),
    })
    let [lost, found] = [0, 0]
    fc.assert(
      fc.property(cases, ({ width, height, place, size, scale, alignCorners, seed }) => {
        const sample = scene(width, height, [[Math.floor(place[0] * width), Math.floor(place[1] * height)]])
        const crop = (cropSize: readonly [number, number], classCrop: number) =>
          randomCrop({ cropSize, scale: [scale, scale], alignCorners, classCrop, cropClasses: [1] })(
            sample,
            randomFor(seed),
          ).mask
        const exists = crop([300, 300], 0).includes(1) // all of it: reduced pictures lose single pixels
        expect(crop(size, 1).includes(1)).toBe(exists)
        exists ? found++ : lost++
      }),
      { numRuns: 400 },
    )
    expect(lost).toBeGreaterThan(20)
    expect(found).toBeGreaterThan(200)
  })

  test("contain it under rotation too, unless it was turned out of the picture", () => {
    const sample = scene(60, 50, []) // the block is in a corner
    let [inside, outside, missed] = [0, 0, 0]
    for (let seed = 0; seed < 300; seed++) {
      const crop = (size: number, classCrop: number) =>
        randomCrop({
          ...{ cropSize: [size, size], rotation: [-180, 180], scale: [0.5, 2], classCrop, cropClasses: [2] },
        })(sample, randomFor(seed)).mask.includes(2)
      const [exists, isShown] = [crop(200, 0), crop(8, 1)]
      if (!exists) outside++
      else if (isShown) inside++
      else missed++
    }
    expect(Math.min(inside, outside)).toBeGreaterThan(50)
    expect(missed).toBeLessThan(6) // an edge of it was left, but no pixel's centre
  })

  test("come as often as asked; classes equally often, however unequal; every place equally likely", () => {
    const sample = scene(90, 80, [[50, 40]])
    const crop = randomCrop({
      ...{ cropSize: [4, 5], scale: [1, 1], flip: 0 },
      ...{ classCrop: 0.5, cropClasses: [1, 2, 7] }, // there is no 7
    })
    const counts = { one: 0, two: 0 }
    const places = new Map<number, number>()
    for (let seed = 0; seed < 4000; seed++) {
      const { mask } = crop(sample, randomFor(seed))
      if (mask.includes(2)) counts.two++
      if (!mask.includes(1)) continue
      counts.one++
      places.set(mask.indexOf(1), (places.get(mask.indexOf(1)) ?? 0) + 1)
    }
    // 4000 / 4 each, and what hits them by chance: 20 / 6622 and 35 / 6622 of the others; 5 sigma is 137
    expect(Math.abs(counts.one - 1006)).toBeLessThan(137)
    expect(Math.abs(counts.two - 1010)).toBeLessThan(137)
    expect(places.size).toBe(20)
    for (const count of places.values()) expect(Math.abs(count - counts.one / 20)).toBeLessThan(36)
  })

  test("are ordinary crops where the picture has no such class", () => {
    const sample = scene(90, 80, [])
    const crop = (classCrop: number) =>
      randomCrop({ cropSize: [10, 10], classCrop, cropClasses: [1, 9] })(sample, randomFor(3))
    expect(crop(1)).toEqual(crop(0))
  })
})

test("what one option draws does not depend on the others", () => {
  const sample = scene(50, 40, [[20, 20]])
  const base = { cropSize: [24, 28], scale: [0.7, 1.5], flip: 0.5, verticalFlip: 0.5 } as const
  const all: Partial<RandomCropOptions> = {
    ...{ rotation: [-20, 20], classCrop: 0.5, cropClasses: [1], brightness: 0.3, grayscale: 0.5, blur: 0.5 },
  }
  for (let seed = 0; seed < 40; seed++) {
    const crop = (options: Partial<RandomCropOptions>) => randomCrop({ ...base, ...options })(sample, randomFor(seed))
    expect(crop({ rotation: [0, 0] })).toEqual(crop({})) // a rotation that turns nothing leaves all as it was
    const everything = crop(all)
    // Geometry stays when the colours are left out, or only some of them.
    for (const without of [{ brightness: 0 }, { grayscale: 0 }, { blur: 0 }]) {
      expect(crop({ ...all, ...without }).mask).toEqual(everything.mask)
    }
    // Without blur and grey the brightness is the same, whatever happens with the geometry's own options.
    const factor = (options: Partial<RandomCropOptions>) => {
      const white = { ...sample, image: new Uint8Array(sample.image.length).fill(100) }
      const plain = { mean: [0, 0, 0], std: [1, 1, 1] } as const
      return randomCrop({ ...base, fill: true, brightness: 0.3, ...plain, ...options })(white, randomFor(seed)).image[
        28 * 12
      ]
    }
    expect(factor({ classCrop: 1, cropClasses: [1] })).toBe(factor({}))
    expect(factor({ grayscale: 0 })).toBe(factor({ blur: 1e-12 }))
  }
})

test("rotations come as often as asked, at angles in the range", () => {
  // A line from the middle to the right: where it ends up says how far the picture was turned.
  const [size, middle] = [101, 50]
  const mask = new Uint8Array(size * size).fill(0)
  mask.fill(1, middle * size + middle + 45, (middle + 1) * size)
  const sample = { id: "", width: size, height: size, image: new Uint8Array(3 * size * size), mask }
  const crop = randomCrop({
    ...{ cropSize: [size, size], scale: [1, 1], flip: 0, rotation: [10, 40], rotationProbability: 0.25 },
  })
  let turned = 0
  for (let seed = 0; seed < 400; seed++) {
    const at = crop(sample, randomFor(seed)).mask.indexOf(1)
    const [dx, dy] = [(at % size) - middle, middle - Math.floor(at / size)] // dy upwards
    const degrees = (Math.atan2(dy, dx) * 180) / Math.PI
    if (Math.abs(degrees) < 1) continue
    turned++
    expect(degrees).toBeGreaterThan(9)
    expect(degrees).toBeLessThan(42)
  }
  expect(Math.abs(turned - 100)).toBeLessThan(44) // 5 sigma: sqrt(400 * 0.25 * 0.75) = 8.7
})

test("pads with the pixel that is asked for, normalised; without one with the mean, which is 0", () => {
  const sample = { id: "", width: 1, height: 1, image: Uint8Array.of(9, 9, 9), mask: Uint8Array.of(3) }
  const pad = (options: Partial<RandomCropOptions>) => {
    const { image, mask } = randomCrop({ cropSize: [1, 2], scale: [1, 1], flip: 0, ...options })(sample, randomFor(0))
    expect([...mask]).toEqual([3, 255])
    return [1, 3, 5].map((at) => image[at]!)
  }
  expect(pad({})).toEqual([0, 0, 0])
  expect(pad({ ...symmetric, padPixel: [127.5, 0, 255] })).toEqual([0, -1, 1])
  const [red, green, blue] = pad({ ...resnetV1, padPixel: [123.15, 116.9, 0] })
  expect(red).toBeCloseTo(0, 5)
  expect(green).toBeCloseTo(1, 5)
  expect(blue).toBeCloseTo(-103.06, 4)
})

test("ResNet v1's normalisation takes the mean away and nothing else", () => {
  const sample = { id: "", width: 1, height: 1, image: Uint8Array.of(124, 0, 255), mask: Uint8Array.of(0) }
  const { image } = randomCrop({ cropSize: [1, 1], scale: [1, 1], ...resnetV1 })(sample, randomFor(0))
  for (const [c, value] of [124 - 123.15, -115.9, 255 - 103.06].entries()) expect(image[c]).toBeCloseTo(value, 4)
})

test.each<[string, object, string]>([
  ["rotation", { rotation: [10, -10] }, "rotation: got 10 to -10; expected two angles"],
  ["rotation's probability", { rotationProbability: 2 }, "rotationProbability: got 2"],
  ["class crops without classes", { classCrop: 0.5 }, "classCrop: got 0.5, but no cropClasses"],
  ["void as a class", { cropClasses: [255] }, "cropClasses: got [255]; expected labels from 0 to 253."],
  ["padding", { padPixel: [0, 0, 300] }, "padPixel: got [0, 0, 300]; expected R, G, B from 0 to 255."],
])("refuses: %s", (_, options, message) => {
  expect(() => randomCrop({ cropSize: [9, 9], ...options })).toThrow(UserError)
  expect(() => randomCrop({ cropSize: [9, 9], ...options })).toThrow(message)
})
