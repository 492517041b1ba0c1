import { expect, test } from "vitest"
import type { RgbImage } from "../data/image.ts"
import { parseLabelMap } from "../data/label-map.ts"
import { fitInside, resizeImage } from "./canvas.ts"
import { cropImage, cropMask, frame, nameObjects, overlay, resizeMask } from "./pictures.ts"

const grey = (width: number, height: number): RgbImage => ({
  width,
  height,
  data: new Uint8Array(width * height * 3).fill(100),
})
const mask = (width: number, height: number, label: (x: number, y: number) => number) => ({
  width,
  height,
  labels: Uint8Array.from({ length: width * height }, (_, at) => label(at % width, Math.floor(at / width))),
})
const map = parseLabelMap(["background", "cat"], "test")

test("a smaller mask has the labels nearest to its pixels' centres, and no others", () => {
  const large = mask(4, 2, (x, y) => 10 * y + x)
  expect([...resizeMask(large, { width: 2, height: 1 }).labels]).toEqual([11, 13]) // centres at 1 and 3, of row 1
  expect(resizeMask(large, { width: 4, height: 2 }).labels).toEqual(large.labels)
})

test("parts of pictures and masks", () => {
  const whole = mask(4, 3, (x, y) => 10 * y + x)
  expect(cropMask(whole, [1, 1, 2, 2])).toEqual({ width: 2, height: 2, labels: Uint8Array.of(11, 12, 21, 22) })
  const image = {
    width: 4,
    height: 3,
    data: Uint8Array.from([...whole.labels].flatMap((label) => [label, label, label])),
  }
  expect([...cropImage(image, [1, 1, 2, 2]).data]).toEqual([11, 11, 11, 12, 12, 12, 21, 21, 21, 22, 22, 22])
})

test("a resized picture has just the size that was asked for", async () => {
  expect(await resizeImage(grey(500, 333), { width: 320, height: 213 })).toMatchObject({ width: 320, height: 213 })
  const fitted = await fitInside(grey(500, 250), { width: 100, height: 100 })
  expect([fitted.width, fitted.height, fitted.data.length]).toEqual([100, 50, 15000])
})

const white = ({ data }: RgbImage) => data.filter((value) => value === 255).length

test("the name of an object stands on it; one that is narrower than its name has none", () => {
  const wide = mask(80, 40, (x, y) => (x >= 20 && x < 70 && y >= 10 && y < 35 ? 1 : 0))
  const named = nameObjects(grey(80, 40), wide, map)
  const changed = [...named.data].flatMap((value, k) => (value === 100 ? [] : [Math.floor(k / 3)]))
  expect(white(named)).toBeGreaterThan(100)
  for (const at of changed) expect(wide.labels[at]).toBe(1)
  const narrow = mask(80, 40, (x, y) => (x >= 20 && x < 50 && y >= 10 && y < 35 ? 1 : 0)) // "cat" is 38 wide
  expect(white(nameObjects(grey(80, 40), narrow, map))).toBe(0)
  expect(
    white(
      nameObjects(
        grey(80, 40),
        mask(80, 40, () => 0),
        map,
      ),
    ),
  ).toBe(0) // nobody needs "background"
})

test("a frame shows on bright and on dark, and stays in the picture", () => {
  const framed = frame(grey(10, 10), [0, 0, 4, 4])
  expect([...framed.data.subarray(0, 3)]).toEqual([255, 255, 255])
  const at = (x: number, y: number) => framed.data[(y * 10 + x) * 3]
  expect([at(3, 0), at(4, 0), at(2, 2), at(5, 5)]).toEqual([255, 40, 100, 100])
})

test("an overlay tints objects and leaves background as it is", () => {
  const labels = mask(4, 1, (x) => (x < 2 ? 0 : 1))
  const { data } = overlay(
    grey(4, 1),
    labels,
    [
      [0, 0, 0],
      [200, 0, 0],
    ],
    { background: 0 },
  )
  expect([...data.subarray(0, 3)]).toEqual([100, 100, 100])
  expect([...data.subarray(9, 12)]).toEqual([150, 50, 50])
})
