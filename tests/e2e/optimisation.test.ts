// Optimisation as a run does it: DeepLab's protocol, several batches a step, runs from before these options, refusals.
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { loadSafetensors } from "../../src/torch/safetensors.ts"
import { parseConfig } from "../../src/train/config.ts"
import { resumeRun, startRun } from "../../src/train/run.ts"
import type { RunFolder, StepRecord } from "../../src/train/run-folder.ts"
import { temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const small = { data, width: 2, depth: 2, batchSize: 4, crop: [32, 32], learningRate: 0.01, threads: 1, evaluations: 1 }
const config = (changes: object) => parseConfig({ ...small, ...changes })
const steps = (run: RunFolder) => run.records().filter((record): record is StepRecord => record.kind === "step")
const losses = (run: RunFolder) => steps(run).map(({ loss }) => loss)
const rates = (run: RunFolder) => steps(run).map(({ learningRate }) => learningRate)

beforeAll(() => generateShapes(data, { train: 12, val: 2, size: [48, 48], seed: 3 }))

const deepLab = {
  model: "lraspp",
  encoder: "mobilenet_v2_0.35",
  optimizer: "sgd",
  learningRate: 0.007,
  weightDecay: 4e-5,
  decayExempt: "deeplab",
  biasMultiplier: 2,
  lastLayerMultiplier: 10,
  multiplierForm: "gradient",
  slowStart: 3,
  batchNormMomentum: 0.0003,
  batchNormBatches: 0,
  width: null,
  depth: null,
}

test("DeepLab's protocol: slow start, then poly; stopped in the slow start it goes on the same; its statistics are warned of", async () => {
  const notices: string[] = []
  const onNotice = (text: string) => notices.push(text)
  const straight = await startRun(config({ ...deepLab, steps: 6 }), join(folder, "deeplab"), { onNotice })
  expect(rates(straight.run)).toEqual(
    [1e-4, 1e-4, 1e-4, 0.007, 0.007 * (2 / 3) ** 0.9, 0.007 * (1 / 3) ** 0.9].map((rate) => expect.closeTo(rate, 12)),
  )
  expect(notices).toEqual([
    expect.stringContaining("100 % of the running statistics are still the initial ones after 6 batches"),
  ])
  const stop = new AbortController()
  const stopped = await startRun(config({ ...deepLab, steps: 6 }), join(folder, "deeplab-stopped"), {
    signal: stop.signal,
    onStep: ({ step }) => step === 2 && stop.abort(),
  })
  await resumeRun(stopped.run.path)
  expect(losses(stopped.run)).toEqual(losses(straight.run))
  // And the multipliers had a part in it.
  const plain = await startRun(
    config({ ...deepLab, biasMultiplier: 1, lastLayerMultiplier: 1, multiplierForm: null, steps: 6 }),
    join(folder, "deeplab-plain"),
  )
  expect(losses(plain.run)[0]).toBe(losses(straight.run)[0])
  expect(losses(plain.run)).not.toEqual(losses(straight.run))
})

test("epochs count images, whatever number of batches makes a step", async () => {
  const { run } = await startRun(config({ epochs: 4, accumulate: 2, batchSize: 3 }), join(folder, "epochs"))
  expect(steps(run)).toHaveLength(8) // 4 passes over 12 images, 6 of them a step
})

test("a run from before these options goes on with the losses it would have had", async () => {
  const straight = await startRun(config({ steps: 5 }), join(folder, "new"))
  const stop = new AbortController()
  const stopped = await startRun(config({ steps: 5 }), join(folder, "old"), {
    signal: stop.signal,
    onStep: ({ step }) => step === 2 && stop.abort(),
  })
  const path = stopped.run.file("config.json")
  const stored = JSON.parse(readFileSync(path, "utf8"))
  expect(stored.warmup).toBe(0.03) // as it was written then
  const since = ["nesterov", "betas", "eps", "decayExempt", "biasMultiplier", "lastLayerMultiplier", "lastLayers"]
  since.push("multiplierForm", "layerDecay", "clipNorm", "clipValue", "accumulate", "power", "endLearningRate")
  since.push("decaySteps", "stepSize", "milestones", "gamma", "peakAt", "restartEvery", "restartGrowth", "slowStart")
  since.push("slowStartLearningRate", "slowStartForm", "batchNormMomentum")
  for (const key of since) {
    expect(stored).toHaveProperty(key)
    delete stored[key]
  }
  writeFileSync(path, JSON.stringify(stored))
  await resumeRun(stopped.run.path)
  expect(losses(stopped.run)).toEqual(losses(straight.run))
})

test("neutral settings change no bit of a run", async () => {
  const plain = await startRun(config({ steps: 4 }), join(folder, "plain"))
  const neutral = {
    biasMultiplier: 1,
    layerDecay: 1,
    accumulate: 1,
    decaySteps: 4,
    power: 0.9,
    endLearningRate: 0,
    clipNorm: 1e9,
  }
  const same = await startRun(config({ steps: 4, ...neutral }), join(folder, "neutral"))
  expect(losses(same.run)).toEqual(losses(plain.run))
  const weights = (run: RunFolder) =>
    [...loadSafetensors(run.file("last.safetensors")).tensors].map(([name, tensor]) => [name, tensor.data()])
  expect(weights(same.run)).toEqual(weights(plain.run))
})

test.each([
  [{ layerDecay: 0.5 }, "layerDecay: this model has no encoder, so that would do nothing."],
  [
    { lastLayerMultiplier: 10, multiplierForm: "rate" },
    "all its layers would be last ones. Choose logits as lastLayers.",
  ],
  [{ slowStart: 5 }, "slowStart is 5 steps and the run has 4"],
  [{ endLearningRate: 0.1 }, "endLearningRate is 0.1, above the learning rate 0.01"],
])("%o is refused before anything is written", async (changes, message) => {
  await expect(startRun(config({ steps: 4, ...changes }), join(folder, "refused"))).rejects.toThrow(message)
})
