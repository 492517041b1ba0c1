// The whole job on a small generated data set: train, stop, resume, evaluate, predict.
import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, expect, test } from "vitest"
import { decodePng } from "../../src/data/png.ts"
import { generateShapes } from "../../src/data/shapes.ts"
import { aten } from "../../src/torch/index.ts"
import { loadSafetensors } from "../../src/torch/safetensors.ts"
import { parseConfig } from "../../src/train/config.ts"
import { resumeRun, startRun } from "../../src/train/run.ts"
import type { StepRecord } from "../../src/train/run-folder.ts"
import { RunFolder } from "../../src/train/run-folder.ts"
import { pixelwise, start, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const small = { data, width: 2, depth: 2, batchSize: 4, crop: [32, 32], learningRate: 0.01, threads: 1 }
const config = (changes: object) => parseConfig({ ...small, ...changes })
const losses = (run: RunFolder) =>
  run
    .records()
    .filter((record): record is StepRecord => record.kind === "step")
    .map(({ loss }) => loss)

beforeAll(() => generateShapes(data, { train: 12, val: 4, size: [48, 48], seed: 3 }))

test("a run folder holds everything, and the scores of eval are those of training", async () => {
  const out = join(folder, "full")
  const trained = await pixelwise(
    ...["train", "--data", data, "--out", out, "--width", "2", "--depth", "2", "--crop", "32", "--batch-size", "4"],
    ...["--steps", "6", "--evaluations", "2", "--json"],
  )
  expect(trained.stderr).toBe("")
  expect(trained.code).toBe(0)
  const events = trained.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
  expect(events.map(({ kind }) => kind)).toEqual([
    "step",
    "step",
    "step",
    "evaluation",
    "step",
    "step",
    "step",
    "evaluation",
    "end",
  ])
  expect(events.at(-1)).toMatchObject({ completed: true, run: out })
  expect(events.at(-1).report).toBe(join(out, "report.html"))
  const files = readdirSync(out).map((name) => name.replace(/^(events\.out\.tfevents)\..*/, "$1"))
  expect(files.sort()).toEqual(
    [
      "best.safetensors",
      "config.json",
      "curves.svg",
      "diagnosis.json",
      "evaluation.json",
      "events.out.tfevents",
      "label-map.json",
      "last.safetensors",
      "metrics.jsonl",
      "report.html",
      "samples",
      "samples.png",
      "scores.json",
      "versions.json",
    ], // and nothing temporary
  )

  const evaluated = await pixelwise("eval", "--run", out, "--json")
  const best = events.filter(({ kind }) => kind === "evaluation").sort((a, b) => b.scores.meanIoU - a.scores.meanIoU)[0]
  expect(JSON.parse(evaluated.stdout).scores).toEqual(best.scores)

  const images = join(data, "JPEGImages")
  const predicted = await pixelwise("predict", "--run", out, "--out", join(folder, "predicted"), images)
  expect(predicted.code).toBe(0)
  const masks = readdirSync(join(folder, "predicted", "masks"))
  expect(masks).toHaveLength(16)
  expect(readdirSync(join(folder, "predicted", "overlays"))).toEqual(masks)
  const path = join(folder, "predicted", "masks", masks[0] as string)
  const mask = decodePng(readFileSync(path), path)
  expect([mask.width, mask.height]).toEqual([48, 48])
}, 60_000)

test("a run that was stopped goes on with the losses it would have had", async () => {
  const straight = await startRun(config({ steps: 8, evaluations: 1 }), join(folder, "straight"))
  const stop = new AbortController()
  const stopped = await startRun(config({ steps: 8, evaluations: 1 }), join(folder, "stopped"), {
    signal: stop.signal,
    onStep: ({ step }) => step === 3 && stop.abort(),
  })
  expect(stopped.completed).toBe(false)
  expect(losses(stopped.run)).toEqual(losses(straight.run).slice(0, 3))
  const resumed = await resumeRun(stopped.run.path)
  expect(resumed.completed).toBe(true)
  expect(losses(resumed.run)).toEqual(losses(straight.run))
  expect(resumed.scores).toEqual(straight.scores)
})

test("the same seed gives the same losses whatever the number of workers; another seed gives others", async () => {
  const run = (name: string, changes: object) =>
    startRun(config({ steps: 4, evaluations: 1, ...changes }), join(folder, name))
  const inline = await run("workers-0", { workers: 0 })
  const threads = await run("workers-3", { workers: 3 })
  const other = await run("seed-1", { seed: 1 })
  expect(losses(threads.run)).toEqual(losses(inline.run))
  expect(losses(other.run)).not.toEqual(losses(inline.run))
})

test("a run that is being trained is not resumed, nor is its lock left behind", async () => {
  const { run } = await startRun(config({ steps: 1 }), join(folder, "locked"))
  const before = readFileSync(run.file("metrics.jsonl"))
  {
    using _ = run.lock()
    const { code, stdout, stderr } = await pixelwise("train", "--resume", run.path, "--steps", "3")
    expect([code, stdout]).toEqual([2, ""])
    expect(stderr).toMatch(/locked is being trained by process \d+ on .*\n$/)
  }
  expect(readFileSync(run.file("metrics.jsonl"))).toEqual(before)
  await resumeRun(run.path, { steps: 2 })
  expect(existsSync(run.file("training.lock"))).toBe(false)
})

test("measuring batch-norm does not eat a time budget", async () => {
  const notices: string[] = []
  const slow = { width: 32, crop: [256, 256], batchSize: 2, budget: 4 } // 6 batches an epoch, each a fifth of a second
  const { run, completed } = await startRun(config(slow), join(folder, "measured"), {
    onNotice: (text) => void notices.push(text),
  })
  expect(completed).toBe(true)
  expect(run.config.batchNormBatches).toBe(16)
  expect(notices).toEqual([
    expect.stringMatching(/measured on \d of 6 batches: more would take over a tenth of the budget/),
    expect.stringMatching(/^The budget has room for 1 evaluation of the 10 asked for: one takes about \d+ s/),
  ])
})

test("with a time budget the run ends in time and the learning rate reaches its end", async () => {
  const begin = performance.now()
  const { run, completed } = await startRun(config({ budget: 4 }), join(folder, "budget"))
  expect(completed).toBe(true)
  expect((performance.now() - begin) / 1000).toBeLessThan(12) // two busy cores and start-up included
  const steps = run.records().filter((record): record is StepRecord => record.kind === "step")
  const rates = steps.map(({ learningRate }) => learningRate)
  expect(rates.at(-1)).toBeLessThan(0.2 * Math.max(...rates))
})

test("Ctrl-C saves what was reached and says how to go on", async () => {
  const out = join(folder, "interrupted")
  const { child, finished } = start(
    "train",
    "--data",
    data,
    "--out",
    out,
    "--width",
    "2",
    "--depth",
    "2",
    "--crop",
    "32",
    "--steps",
    "100000",
  )
  const deadline = Date.now() + 20_000
  while (!existsSync(join(out, "metrics.jsonl")) && Date.now() < deadline)
    await new Promise((done) => setTimeout(done, 50))
  const asked = performance.now()
  child.kill("SIGINT")
  const { code, stdout } = await finished
  expect(performance.now() - asked).toBeLessThan(5000) // the first evaluation is 10,000 steps away
  expect(code).toBe(130)
  expect(stdout).toContain(`pixelwise train --resume ${out}`)
  expect(existsSync(join(out, "last.safetensors"))).toBe(true)
  const before = losses(RunFolder.open(out)).length
  const resumed = await pixelwise("train", "--resume", out, "--steps", String(before + 2))
  expect(resumed.code).toBe(0)
  expect(losses(RunFolder.open(out))).toHaveLength(before + 2)
}, 60_000)

test("stopped on its last step, a run makes the missing evaluation when it goes on", async () => {
  const stop = new AbortController()
  const stopped = await startRun(config({ steps: 3, evaluations: 1 }), join(folder, "last-step"), {
    signal: stop.signal,
    onStep: ({ step }) => step === 3 && stop.abort(),
  })
  expect([stopped.completed, stopped.scores]).toEqual([false, null])
  const resumed = await resumeRun(stopped.run.path)
  expect(resumed.completed).toBe(true)
  expect(resumed.scores).not.toBeNull()
  expect(losses(resumed.run)).toHaveLength(3)
  expect(existsSync(resumed.run.file("best.safetensors"))).toBe(true)
})

test("stopped in an evaluation, a run begins with it when it goes on", async () => {
  const stop = new AbortController()
  const stopped = await startRun(config({ steps: 4, evaluations: 2 }), join(folder, "in-evaluation"), {
    signal: stop.signal,
    onEvaluating: () => stop.abort(),
  })
  expect([stopped.completed, losses(stopped.run).length]).toEqual([false, 2])
  const steps: number[] = []
  const resumed = await resumeRun(stopped.run.path, {}, { onEvaluation: ({ step }) => void steps.push(step) })
  expect(resumed.completed).toBe(true)
  expect(steps).toEqual([2, 4])
})

test("a finished run can be made longer: it is evaluated on the way, and remembers its new length", async () => {
  const { run } = await startRun(config({ steps: 2, evaluations: 2 }), join(folder, "longer"))
  const stop = new AbortController()
  const steps: number[] = []
  await resumeRun(
    run.path,
    { steps: 8 },
    {
      signal: stop.signal,
      onStep: ({ step }) => step === 5 && stop.abort(),
      onEvaluation: ({ step }) => void steps.push(step),
    },
  )
  await resumeRun(run.path, {}, { onEvaluation: ({ step }) => void steps.push(step) })
  expect(losses(run)).toHaveLength(8)
  expect(steps).toEqual([5, 8])
})

test("measuring batch-norm's statistics changes no step, and a stop just before it changes nothing", async () => {
  const finish = async (name: string, batchNormBatches: number, stopAt?: number) => {
    const stop = new AbortController()
    const onStep = ({ step }: StepRecord) => void (step === stopAt && stop.abort())
    const asked = config({ steps: 6, evaluations: 2, batchNormBatches })
    const { run } = await startRun(asked, join(folder, `statistics-${name}`), { signal: stop.signal, onStep })
    if (stopAt !== undefined) await resumeRun(run.path)
    const statistics = [...loadSafetensors(run.file("last.safetensors")).tensors]
      .filter(([key]) => key.includes("running_"))
      .map(([, tensor]) => [...(tensor.data() as Float32Array)])
    return { losses: losses(run), statistics }
  }
  const none = await finish("none", 0)
  const measured = await finish("measured", 2)
  expect(measured.losses).toEqual(none.losses)
  expect(measured.statistics).not.toEqual(none.statistics)
  expect(await finish("stopped", 2, 3)).toEqual(measured)
})

test("a loss that is not finite stops the run before the step: what is saved is finite, and its batch is kept", async () => {
  const out = join(folder, "diverged")
  const diverging = config({ steps: 50, learningRate: 1e30, optimizer: "sgd", warmup: 0 })
  const message =
    /The loss is (NaN|Infinity|-Infinity) at step 2 \(images .*: the output of down\.0\.\d .*--learning-rate/
  await expect(startRun(diverging, out)).rejects.toThrow(message)
  const { tensors, metadata } = loadSafetensors(join(out, "last.safetensors"))
  for (const [name, tensor] of tensors) expect([name, aten.isfinite(tensor).all().item()]).toEqual([name, 1])
  expect(JSON.parse(metadata.progress as string)).toMatchObject({ step: 1 })
  expect(tensors.get("model.down.0.1.num_batches_tracked")!.item()).toBe(1) // not 2: the second forward is taken back

  const bad = loadSafetensors(join(out, "bad-batch.safetensors"))
  expect([...bad.tensors].map(([name, tensor]) => `${name} ${tensor.signature}`)).toEqual([
    "images float32[4, 3, 32, 32]",
    "labels uint8[4, 32, 32]",
  ])
  expect(JSON.parse(bad.metadata.ids as string)).toHaveLength(4)
  await expect(resumeRun(out)).rejects.toThrow(message) // the same batch again

  // The step before had ruined the weights already: the save before it is still there.
  copyFileSync(join(out, "earlier.safetensors"), join(out, "last.safetensors"))
  await expect(resumeRun(out, { batchSize: 2 })).rejects.toThrow(
    "A resumed run keeps its options; --batch-size cannot change. These can: --steps, --epochs, --budget, --learning-rate,",
  )
  const notices: string[] = []
  const resumed = await resumeRun(out, { learningRate: 0.01, steps: 3 }, { onNotice: (text) => notices.push(text) })
  expect(notices[0]).toBe("Goes on with --learning-rate 0.01 instead of 1e+30, --steps 3 instead of 50.")
  expect(resumed.completed).toBe(true)
  const again: boolean[] = []
  await resumeRun(out, {}, { onStart: ({ isComplete }) => again.push(isComplete) })
  expect(again).toEqual([true])
  expect(losses(resumed.run)).toHaveLength(3)
})
