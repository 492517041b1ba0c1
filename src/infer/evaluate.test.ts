import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import sharp from "sharp"
import { afterAll, beforeAll, expect, test } from "vitest"
import { Loader } from "../data/loader.ts"
import { writeIndexedPng } from "../data/png.ts"
import { openVocFolder } from "../data/voc-folder.ts"
import { createModel } from "../models/index.ts"
import { fromData, manualSeed, noGrad, tidy } from "../torch/index.ts"
import { evaluate, evaluationLoader } from "./evaluate.ts"

const root = mkdtempSync(join(tmpdir(), "evaluate-"))
const sizes = [
  [40, 30],
  [40, 30],
  [40, 30],
  [40, 30],
  [40, 30],
  [30, 40],
  [30, 40],
  [40, 30],
  [1100, 960],
  [1100, 960],
] as const
const names = sizes.map((_, i) => `p${i}`)

beforeAll(async () => {
  for (const folder of ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"]) {
    mkdirSync(join(root, folder), { recursive: true })
  }
  writeFileSync(join(root, "label_map.txt"), "background\nthing\n")
  writeFileSync(join(root, "ImageSets/Segmentation/val.txt"), names.join("\n"))
  writeFileSync(join(root, "ImageSets/Segmentation/small.txt"), names.slice(0, 8).join("\n"))
  writeFileSync(join(root, "ImageSets/Segmentation/bad.txt"), [...names.slice(0, 3), "bad", "p3"].join("\n"))
  for (const [i, [width, height]] of sizes.entries()) {
    const pixels = Uint8Array.from({ length: width * height * 3 }, (_, j) => (j * (i + 3) + i * 20) & 255)
    const image = await sharp(pixels, { raw: { width, height, channels: 3 } })
      .jpeg()
      .toBuffer()
    writeFileSync(join(root, `JPEGImages/p${i}.jpg`), image)
    const mask = Uint8Array.from({ length: width * height }, (_, j) => (j >> i) & 1)
    writeFileSync(
      join(root, `SegmentationClass/p${i}.png`),
      writeIndexedPng(mask, width, height, [
        [0, 0, 0],
        [9, 9, 9],
      ]),
    )
    if (i === 0) writeFileSync(join(root, "JPEGImages/bad.jpg"), image)
  }
  writeFileSync(join(root, "SegmentationClass/bad.png"), "no PNG")
})
afterAll(() => rmSync(root, { recursive: true }))

test("neighbours of one size come together, by four and up to a megapixel, in their order", async () => {
  await using loader = evaluationLoader(openVocFolder(root, { split: "val" }), { workers: 1 })
  const batches: { ids: readonly string[]; shape: readonly number[] }[] = []
  for await (const { ids, shape } of loader.pass({ reuse: true })) batches.push({ ids, shape })
  expect(batches.flatMap(({ ids }) => ids)).toEqual(names)
  expect(batches.map(({ shape }) => shape)).toEqual([
    [4, 30, 40],
    [1, 30, 40],
    [2, 40, 30],
    [1, 30, 40],
    [1, 960, 1100],
    [1, 960, 1100],
  ])
})

test("one matrix of all pixels, as one by one; each batch is handed out with its labels", async () => {
  manualSeed(1)
  using model = createModel("unet", { numClasses: 2, width: 4, depth: 1 }).eval()
  const dataset = openVocFolder(root, { split: "small" })
  await using together = evaluationLoader(dataset, { workers: 0 })
  await using alone = new Loader(dataset, { batchSize: 1, workers: 0, transform: { name: "whole" } })
  for await (const { images, shape } of alone.pass()) {
    tidy(() => {
      using _ = noGrad()
      const { logits } = model.call(fromData(images, [1, 3, shape[1], shape[2]]))
      model
        .stateDict()
        .get("head.bias")!
        .sub_(logits.mean({ dim: [0, 2, 3] })) // so that, untrained, it finds both classes
    })
    break
  }

  const seen: number[] = []
  const matrix = await evaluate(model.train(), together.pass(), 2, {
    onBatch: ({ shape: [n, h, w] }, labels) => void seen.push(labels.length / (n * h * w)),
  })
  expect(model.training).toBe(true)
  expect(seen).toEqual([1, 1, 1, 1])
  expect(matrix.toJSON()).toEqual((await evaluate(model, alone.pass(), 2)).toJSON())
  const pixels = sizes.slice(0, 8).reduce((sum, [w, h]) => sum + w * h, 0)
  expect(
    matrix
      .toJSON()
      .counts.flat()
      .reduce((sum, count) => sum + count, 0),
  ).toBe(pixels)

  const inference = { scales: [0.5, 1], flip: true }
  const averaged = await evaluate(model, together.pass(), 2, { inference })
  expect(averaged.toJSON()).not.toEqual(matrix.toJSON())
})

test("a mask that cannot be read is named when its turn comes", async () => {
  await using loader = evaluationLoader(openVocFolder(root, { split: "bad" }), { workers: 0 })
  const seen: string[] = []
  const pass = async () => {
    for await (const { ids } of loader.pass()) seen.push(...ids)
  }
  await expect(pass()).rejects.toThrow("bad.png")
  expect(seen).toEqual(["p0", "p1", "p2"])
})
