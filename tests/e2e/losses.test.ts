// The loss as a run has it: weights that are counted and kept, mining that goes on after a stop, pyramids, mattes.
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import sharp from "sharp"
import { beforeAll, expect, test } from "vitest"
import { censusLabels } from "../../src/data/census.ts"
import { generateShapes } from "../../src/data/shapes.ts"
import { openVocFolder } from "../../src/data/voc-folder.ts"
import { classWeightsOf } from "../../src/losses/index.ts"
import { parseConfig } from "../../src/train/config.ts"
import { resumeRun, startRun } from "../../src/train/run.ts"
import type { RunFolder, StepRecord } from "../../src/train/run-folder.ts"
import { trainedModel } from "../../src/train/trained-model.ts"
import { pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const small = {
  data,
  width: 2,
  depth: 2,
  batchSize: 4,
  crop: [32, 32],
  learningRate: 0.01,
  threads: 1,
  workers: 0,
  evaluations: 1,
}
const config = (changes: object) => parseConfig({ ...small, steps: 4, ...changes })
const losses = (run: RunFolder) =>
  run
    .records()
    .filter((record): record is StepRecord => record.kind === "step")
    .map(({ loss }) => loss)
const lraspp = { model: "lraspp", encoder: "mobilenet_v2_0.35", width: null, depth: null }

let count = 0
const run = async (changes: object) => (await startRun(config(changes), join(folder, String(count++)))).run

/** Stopped after two of four steps and resumed, with `meanwhile` in between. */
async function interrupted(changes: object, meanwhile: (run: RunFolder) => void = () => {}): Promise<RunFolder> {
  const stop = new AbortController()
  const stopped = await startRun(config(changes), join(folder, String(count++)), {
    signal: stop.signal,
    onStep: ({ step }) => step === 2 && stop.abort(),
  })
  meanwhile(stopped.run)
  return (await resumeRun(stopped.run.path)).run
}

beforeAll(() => generateShapes(data, { train: 12, val: 2, size: [48, 48], seed: 3 }))

test("class weights are those of the training masks, stand in the run, and are not counted again", async () => {
  const changes = { classWeights: "median" }
  const straight = await run(changes)
  const set = openVocFolder(data, { split: "train" })
  const names = set.labelMap.classes.map(({ name }) => name)
  const weights = classWeightsOf("median", await censusLabels(set), names)!
  const kept = JSON.parse(readFileSync(straight.file("class-weights.json"), "utf8"))
  expect(kept).toEqual({ from: "median", weights: Object.fromEntries(names.map((name, k) => [name, weights[k]])) })
  expect(losses(straight)).not.toEqual(losses(await run({})))
  expect(losses(straight)).toEqual(losses(await run({ classWeights: weights })).map((loss) => expect.closeTo(loss, 6)))

  expect(losses(await interrupted(changes))).toEqual(losses(straight))
  // The kept ones count: with others the last two losses are others.
  const others = await interrupted(changes, (stopped) => {
    const ones = Object.fromEntries(names.map((name) => [name, name === names[1] ? 9 : 1]))
    writeFileSync(stopped.file("class-weights.json"), JSON.stringify({ from: "median", weights: ones }))
  })
  expect(losses(others).slice(0, 2)).toEqual(losses(straight).slice(0, 2))
  expect(losses(others)[2]).not.toBe(losses(straight)[2])
  await expect(interrupted(changes, (stopped) => rmSync(stopped.file("class-weights.json")))).rejects.toThrow(
    /class-weights\.json is missing: the class weights that the run began with/,
  )
})

test("mining is annealed by the run's step, also after a stop", async () => {
  const changes = { topK: 0.1, miningSteps: 4 }
  const [straight, plain] = [losses(await run(changes)), losses(await run({}))]
  expect(straight[0]).toBeCloseTo(plain[0]!, 5) // all pixels yet
  expect(straight[3]).toBeGreaterThan(plain[3]!)
  expect(losses(await interrupted(changes))).toEqual(straight)
})

test("an image pyramid: three losses for two scales; a trained one predicts with both", async () => {
  const changes = { ...lraspp, imagePyramid: [0.5, 1], pyramidMerge: "average", upsampleLogits: false }
  const straight = await run(changes)
  const plain = losses(await run({ ...lraspp, upsampleLogits: false }))
  expect(losses(straight)[0]! / plain[0]!).toBeGreaterThan(2)
  expect(losses(await interrupted(changes))).toEqual(losses(straight))
  const { model } = trainedModel(straight)
  expect(model.constructor.name).toBe("ImagePyramid")
  model.dispose()
})

test("mattes: a run learns from alpha, and not from the labels it is rounded to", async () => {
  const matte = join(folder, "matte")
  cpSync(data, matte, { recursive: true })
  rmSync(join(matte, "label_map.json"))
  writeFileSync(join(matte, "label_map.txt"), "background\nshape\n")
  const masks = join(matte, "SegmentationClass")
  for (const name of readdirSync(masks)) {
    const image = sharp(new Uint8Array(48 * 48).fill(64), {
      raw: { width: 48, height: 48, channels: 1 },
    }).toColourspace("b-w")
    writeFileSync(join(masks, name), await image.png().toBuffer())
  }
  const straight = losses(await run({ data: matte, groundTruth: "alpha", steps: 30, learningRate: 0.1 }))
  // Not below the entropy of a quarter, 0.563; with labels, all of them background, it falls to 0.
  expect(Math.min(...straight)).toBeGreaterThan(0.56)
  expect(straight.at(-1)!).toBeLessThan(0.6)
})

test("the command line has them all", async () => {
  const args = [
    "--data",
    data,
    "--model",
    "lraspp",
    "--encoder",
    "mobilenet_v2_0.35",
    "--batch-size",
    "4",
    "--crop",
    "32",
  ]
  const loss = ["--loss", "cross-entropy + 0.5 dice", "--class-weights", "effective", "--effective-beta", "0.999"]
  const more = ["--weight-reduction", "pixels", "--label-smoothing", "0.1", "--ohem-threshold", "0.7"]
  const rest = [
    "--ohem-min-kept",
    "100",
    "--upsample-logits",
    "false",
    "--image-pyramid",
    "0.5,1",
    "--steps",
    "2",
    "--workers",
    "0",
  ]
  const out = join(folder, "cli")
  const { code, stderr } = await pixelwise("train", ...args, ...loss, ...more, ...rest, "--out", out)
  expect(stderr).not.toContain("Error")
  expect(code).toBe(0)
  const refused = await pixelwise("train", ...args, "--loss", "cross-entorpy", "--steps", "2", "--out", `${out}-2`)
  expect(refused.code).toBe(2)
  expect(refused.stderr).toContain(
    '--loss is "cross-entorpy": There is no loss "cross-entorpy". Did you mean "cross-entropy"?',
  )
})

test("logits that are as large as the image are not made small", async () => {
  await expect(run({ upsampleLogits: false })).rejects.toThrow(/this model's logits are as large as the image/)
})
