import { expect, test } from "vitest"
import { censusLabels } from "./census.ts"
import type { VocFolder } from "./voc-folder.ts"

test("pixels, images, and the pixels of the images of each class, void left out everywhere", async () => {
  const masks = [
    [0, 0, 0, 1, 255, 255], // 4 pixels that count
    [1, 1, 0, 0, 0], // 5
    [255, 255], // nothing but void
    [2, 2, 2], // 3
  ]
  const dataset = {
    ids: masks.map((_, i) => String(i)),
    labelMap: { classes: [0, 1, 2, 3].map((index) => ({ index, name: String(index) })) },
    checkSample: (index: number) => Promise.resolve({ labels: Uint8Array.from(masks[index]!) }),
  }
  const progress: [number, number][] = []
  const census = await censusLabels(dataset as unknown as VocFolder, {
    onProgress: (done, total) => progress.push([done, total]),
  })
  expect({ ...census, pixels: [...census.pixels], images: [...census.images] }).toMatchObject({
    pixels: [6, 3, 3, 0],
    images: [2, 2, 1, 0],
    ignored: 4,
  })
  expect([...census.pixelsOfItsImages]).toEqual([9, 9, 3, 0])
  expect(progress.at(-1)).toEqual([4, 4])
})
