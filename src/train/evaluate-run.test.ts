import { cpSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { generateShapes } from "../data/shapes.ts"
import { matrixOf, scoresOf } from "../metrics/index.ts"
import { parseConfig } from "./config.ts"
import { evaluateRun } from "./evaluate-run.ts"
import { startRun } from "./run.ts"
import type { RunFolder } from "./run-folder.ts"

const folder = mkdtempSync(join(tmpdir(), "evaluate-run-"))
afterAll(() => rmSync(folder, { recursive: true }))
const data = join(folder, "shapes")
const file = join(folder, "run", "evaluation.json")
let run: RunFolder

beforeAll(async () => {
  await generateShapes(data, { train: 8, val: 5, size: [48, 40], seed: 3 })
  const config = { data, width: 4, depth: 2, batchSize: 4, crop: [32, 32], learningRate: 0.01, steps: 8, threads: 1 }
  run = (await startRun(parseConfig({ ...config, average: 0 }), join(folder, "run"))).run
})

test("the result of a run is all that its best model scores on its own validation split, and is kept", async () => {
  rmSync(file, { force: true })
  const progress: number[] = []
  const seen: string[] = []
  const evaluation = await evaluateRun(run, {
    onProgress: (done, total) => progress.push(done / total),
    onImage: ({ id, prediction, truth, confidence }) => {
      seen.push(id)
      expect([prediction.length, truth.length, confidence.length]).toEqual([40 * 48, 40 * 48, 40 * 48])
    },
  })
  expect(evaluation).toMatchObject({ run: run.path, weights: run.file("best.safetensors"), data, split: "val" })
  expect(progress.length).toBeGreaterThan(1)
  expect(progress).toEqual(progress.toSorted((a, b) => a - b))
  expect(progress.at(-1)).toBe(1)
  expect(seen).toEqual(evaluation.images.map(({ id }) => id))
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(evaluation)

  // what training measured of the same weights
  const best = run
    .records()
    .filter((record) => record.kind === "evaluation")
    .reduce((a, b) => ((b.scores.meanIoU ?? 0) > (a.scores.meanIoU ?? 0) ? b : a))
  expect(scoresOf(evaluation)).toEqual(best.scores)
  expect(evaluation.images.map(({ id, width, height }) => [id, width, height])).toEqual(
    Array.from({ length: 5 }, (_, k) => [`val_0000${k}`, 40, 48]),
  )
  const pixels = matrixOf(evaluation).counts.reduce((a, b) => a + b)
  expect(evaluation.calibration!.bins.reduce((sum, bin) => sum + bin.pixels, 0)).toBe(pixels)
  expect(evaluation.ceilings, "this UNet's labels are as fine as the image").toEqual([])
})

test("other splits, data or inference are scored, and are not the run's result", async () => {
  const before = readFileSync(file, "utf8")
  const copy = join(folder, "copy")
  cpSync(data, copy, { recursive: true })
  const train = await evaluateRun(run, { split: "train" })
  expect([train.split, train.images.length]).toEqual(["train", 8])
  expect((await evaluateRun(run, { data: copy })).data).toBe(copy)
  const flipped = await evaluateRun(run, { inference: { flip: true } })
  expect(flipped.images).not.toEqual(JSON.parse(before).images)
  expect(readFileSync(file, "utf8")).toBe(before)

  rmSync(file)
  await evaluateRun(run, { data: `${data}/.`, split: "val", inference: { flip: undefined } as object })
  expect(existsSync(file), "the same things, said outright").toBe(true)
})

test("a model whose logits are coarser than the image has ceilings of their stride", async () => {
  const config = {
    data,
    model: "fcn16s",
    encoder: "mobilenet_v2_0.35",
    width: 4,
    batchSize: 4,
    crop: [32, 32],
    steps: 1,
  }
  const coarse = await startRun(parseConfig({ ...config, threads: 1 }), join(folder, "coarse"))
  const { ceilings } = await evaluateRun(coarse.run)
  expect(ceilings.map(({ stride }) => stride)).toEqual([16, 16])
})

test("refuses data of other classes, and a run without weights", async () => {
  const other = join(folder, "other")
  cpSync(data, other, { recursive: true })
  writeFileSync(join(other, "label_map.txt"), "background\na\nb\nc\nd\ne\n")
  rmSync(join(other, "label_map.json"))
  await expect(evaluateRun(run, { data: other })).rejects.toThrow(
    `${other} has the classes background, a, b, c, d, e; the run ${run.path} was trained on background, disc,`,
  )
  renameSync(run.file("best.safetensors"), run.file("kept"))
  rmSync(run.file("last.safetensors"))
  await expect(evaluateRun(run)).rejects.toThrow("has no weights yet")
  renameSync(run.file("kept"), run.file("best.safetensors"))
})

test("ends when asked to, and writes nothing", async () => {
  rmSync(file, { force: true })
  const controller = new AbortController()
  const onProgress = () => controller.abort(new Error("enough"))
  await expect(evaluateRun(run, { signal: controller.signal, onProgress })).rejects.toThrow("enough")
  expect(existsSync(file)).toBe(false)
})
