import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { parseLabelMap, vocColor } from "../data/label-map.ts"
import { writeIndexedPng } from "../data/png.ts"
import { openPredictionFolder } from "../data/prediction-folder.ts"
import { openVocMasks, type VocMasks } from "../data/voc-folder.ts"
import { UserError } from "../errors.ts"
import { matrixOf } from "../metrics/evaluation.ts"
import { scorePredictions } from "./score-predictions.ts"

const folder = mkdtempSync(join(tmpdir(), "score-"))
afterAll(() => rmSync(folder, { recursive: true }))

// 40 images of different sizes: random truth with void, and random predictions.
const CLASSES = 3
const palette = Array.from({ length: 256 }, (_, i) => vocColor(i))
let state = 1
const random = (below: number) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * below)
}
const images = Array.from({ length: 40 }, (_, k) => {
  const [width, height] = [5 + random(9), 5 + random(9)]
  const labels = (choices: readonly number[]) =>
    Uint8Array.from({ length: width * height }, () => choices[random(choices.length)]!)
  return { id: `i${k}`, width, height, truth: labels([0, 0, 1, 2, 255]), prediction: labels([0, 1, 2]) }
})
const write = (path: string, labels: Uint8Array, { width, height }: { width: number; height: number }) =>
  writeFileSync(path, writeIndexedPng(labels, width, height, palette))
const predictions = join(folder, "predictions")
let masks: VocMasks

beforeAll(() => {
  for (const name of ["SegmentationClass", "ImageSets/Segmentation", "predictions"]) {
    mkdirSync(join(folder, name), { recursive: true })
  }
  writeFileSync(join(folder, "ImageSets/Segmentation/val.txt"), images.map(({ id }) => id).join("\n"))
  for (const image of images) {
    write(join(folder, "SegmentationClass", `${image.id}.png`), image.truth, image)
    write(join(predictions, `${image.id}.png`), image.prediction, image)
  }
  masks = openVocMasks(folder, { split: "val", labelMap: parseLabelMap(["background", "cat", "dog"], "x") })
})
const files = () => openPredictionFolder(predictions, masks).files

/** Counted the slow way, pixel by pixel. */
function counted(
  of: readonly (typeof images)[number][],
  predictionOf = (image: (typeof images)[number]) => image.prediction,
) {
  const counts = Array.from({ length: CLASSES }, () => new Array<number>(CLASSES).fill(0))
  for (const image of of) {
    const prediction = predictionOf(image)
    for (const [i, t] of image.truth.entries()) if (t !== 255) counts[t]![prediction[i]!]! += 1
  }
  return counts
}

describe("scorePredictions", () => {
  test("counts every pixel of truth and prediction that is not void, whether in threads or not", async () => {
    const alone = await scorePredictions(masks, { files: files(), numbering: "dataset" }, { workers: 0 })
    expect(matrixOf(alone).toJSON().counts).toEqual(counted(images))
    expect(alone.images.map(({ id, width, height }) => ({ id, width, height }))).toEqual(
      images.map(({ id, width, height }) => ({ id, width, height })),
    )
    expect(alone).toMatchObject({ classes: ["background", "cat", "dog"], background: 0, calibration: null })
    const shared = await scorePredictions(masks, { files: files(), numbering: "dataset" }, { workers: 2 })
    expect(shared).toEqual(alone)
  })

  test("needs no files for one class everywhere, and says what such files would have said", async () => {
    const constant = await scorePredictions(masks, { constant: 1 })
    expect(matrixOf(constant).toJSON().counts).toEqual(counted(images, ({ truth }) => truth.map(() => 1)))
  })

  test("measures boundaries if told to", async () => {
    const both = [true, false].map((boundary) =>
      scorePredictions(masks, { files: files(), numbering: "dataset" }, { boundary }),
    )
    const [measured, left] = await Promise.all(both)
    expect(await scorePredictions(masks, { files: files(), numbering: "dataset" })).toEqual(left)
    expect(measured!.images.every(({ boundary }) => boundary !== null)).toBe(true)
    expect(left!.images.every(({ boundary }) => boundary === null)).toBe(true)
    expect(matrixOf(left!)).toEqual(matrixOf(measured!))
  })

  test("tells how far it is, and can be stopped", async () => {
    const done: number[] = []
    const controller = new AbortController()
    const stopped = scorePredictions(
      masks,
      { constant: 0 },
      {
        signal: controller.signal,
        onProgress(count, total) {
          done.push(count)
          expect(total).toBe(40)
          if (count === 32) controller.abort(new Error("enough"))
        },
      },
    )
    await expect(stopped).rejects.toThrow("enough")
    expect(done).toEqual([16, 32])
  })

  test.each([0, 2])("ends with the first bad image of the split, with %i threads", async (workers) => {
    const bad = files().slice()
    for (const k of [39, 17, 18]) {
      bad[k] = join(folder, `bad${k}.png`)
      write(
        bad[k],
        images[k]!.prediction.map(() => 9),
        images[k]!,
      )
    }
    const error = await scorePredictions(masks, { files: bad, numbering: "dataset" }, { workers }).catch((e) => e)
    expect(error).toBeInstanceOf(UserError)
    expect(error.message).toMatch(/bad17\.png has the label 9 at pixel \(x 0, y 0\); expected 0\.\.2\./)
  })

  test("names a mask that is wrong, too", async () => {
    const broken = { ...masks, masks: masks.masks.with(3, join(folder, "none.png")) }
    const error = await scorePredictions(broken, { constant: 0 }).catch((e) => e)
    expect(error).toBeInstanceOf(UserError)
    expect(error.message).toMatch(/^Cannot read mask .*none\.png: it does not exist\.$/)
  })
})
