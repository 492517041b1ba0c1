// Steps that are not made, and steps of several batches; whole runs are in tests/e2e/train.test.ts.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import type { Batch } from "../data/batch.ts"
import { randomFor } from "../data/random.ts"
import { UserError } from "../errors.ts"
import { crossEntropy } from "../losses/index.ts"
import type { Objective } from "../losses/objective.ts"
import type { SegmentationModel, SegmentationOutput } from "../models/index.ts"
import { BatchNorm2d, Conv2d, Dropout, KeptStatistics, Module, ReLU, Sequential } from "../nn/index.ts"
import { GradScaler, poly, SGD } from "../optim/index.ts"
import {
  alone,
  liveTensors,
  manualSeed,
  memory,
  noGrad,
  OpError,
  type Replayable,
  rand,
  rngState,
  setRngState,
  type Tensor,
  tidy,
} from "../torch/index.ts"
import { loadSafetensors } from "../torch/safetensors.ts"
import { parseConfig } from "./config.ts"
import { RunFolder, type StepRecord } from "./run-folder.ts"
import { type BatchSource, Trainer, type TrainerParts, TrainingError } from "./trainer.ts"

const folder = mkdtempSync(join(tmpdir(), "pixelwise-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** With everything that a step changes: weights, running statistics, and random numbers (dropout). */
class Small extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
  readonly features = new Sequential(
    new Conv2d(3, 4, 3, { padding: 1 }),
    new BatchNorm2d(4),
    new ReLU(),
    new Dropout(0.5),
  )
  readonly head = new Conv2d(4, 2, 1)
  readonly stride = 1
  readonly logitLayers = ["head"]

  protected override forward(image: Tensor): SegmentationOutput {
    return { logits: this.head.call(this.features.call(image)) }
  }
}

/** Two images of 6x6 pixels, other ones for each step; every fourth label is void. */
function batchOf(step: number, changes: (batch: Batch) => void = () => {}): Batch {
  const random = randomFor(7, 0, step)
  const images = Float32Array.from({ length: 2 * 3 * 36 }, () => random.uniform(-1, 1))
  const masks = Uint8Array.from({ length: 2 * 36 }, (_, k) => (k % 4 === 0 ? 255 : Number(random.chance(0.5))))
  const batch: Batch = { images, masks, shape: [2, 6, 6], ids: [`a${step}`, `b${step}`], step, epoch: 0 }
  changes(batch)
  return batch
}

function source(make: (step: number) => Batch): BatchSource & { started: number[] } {
  const started: number[] = []
  return {
    started,
    waitSeconds: 0,
    async *batches({ startStep }) {
      started.push(startStep)
      for (let step = startStep; ; step++) yield make(step)
    },
  }
}

const scores = {
  meanIoU: 0.5,
  meanIoUWithoutBackground: null,
  meanAccuracy: 0.5,
  pixelAccuracy: 0.5,
  classes: [],
  leftOut: [],
  trivial: { name: "a", meanIoU: 0, meanIoUWithoutBackground: null, pixelAccuracy: 0 },
}

/** A trainer of a new Small in the run folder `name`, which is made anew or, to go on, as it is. */
function trainerOf(name: string, { resume = false, ...parts }: Partial<TrainerParts> & { resume?: boolean } = {}) {
  const path = join(folder, name)
  const labelMap = { classes: [], ignore: 255 } as unknown as RunFolder["labelMap"]
  const run = resume ? RunFolder.open(path) : RunFolder.create(path, parseConfig({ data: "none" }), labelMap)
  manualSeed(3)
  const model = tidy(() => new Small())
  const optimizer = new SGD(model.namedParameters(), 0.1, { momentum: 0.9 })
  const trainer = new Trainer({
    model,
    optimizer,
    objective: ({ logits }, { labels }) => crossEntropy(logits, labels),
    learningRate: 0.1,
    schedule: poly(),
    length: { steps: 6 },
    loader: source(batchOf),
    evaluate: async () => scores,
    evaluationSeconds: 0,
    evaluations: 1,
    run,
    ...parts,
  })
  if (resume) trainer.resume()
  return { trainer, run, model, optimizer }
}

const losses = (run: RunFolder) =>
  run.records().flatMap((record) => (record.kind === "step" ? [(record as StepRecord).loss] : []))

/** Everything that a run's last state holds, but its times. */
const lastState = (run: RunFolder) =>
  tidy(() => {
    const { tensors, metadata } = loadSafetensors(run.file("last.safetensors"))
    const values = Object.fromEntries(
      [...tensors].map(([name, tensor]) => [name, Array.from(tensor.data() as Float32Array, Number)]),
    )
    return { values, step: JSON.parse(metadata.progress!).step }
  })

async function stoppedAfter(step: number, name: string): Promise<RunFolder> {
  const stop = new AbortController()
  const { trainer, run } = trainerOf(name)
  await trainer.train({ signal: stop.signal, onStep: (record) => record.step === step && stop.abort() })
  return run
}

const failure = async (promise: Promise<unknown>): Promise<TrainingError> => {
  const error = await promise.then(
    () => null,
    (reason) => reason,
  )
  expect(error).toBeInstanceOf(TrainingError)
  return error as TrainingError
}

test("an image that is not finite: the state before the step is saved to the bit, and the run goes on from it as if nothing had been", async () => {
  const straight = trainerOf("straight")
  await straight.trainer.train()
  const expected = lastState(await stoppedAfter(2, "stopped"))

  const poisoned = source((step) => batchOf(step, ({ images }) => step === 2 && images.fill(Number.NaN, 40, 41)))
  const { trainer, run } = trainerOf("poisoned", { loader: poisoned })
  const { message } = await failure(trainer.train())
  expect(message).toContain("The loss is NaN at step 3 (images a2, b2): these images themselves are not finite.")
  expect(message).toContain(
    `--resume ${run.path} --learning-rate 0.01; if the loss had grown before, first copy earlier.safetensors, the state of step 0,`,
  )
  expect(lastState(run)).toEqual(expected)

  const bad = loadSafetensors(run.file("bad-batch.safetensors"))
  expect(bad.metadata).toEqual({ ids: '["a2","b2"]', batch: "2", epoch: "0" })
  expect(bad.tensors.get("images")!.shape).toEqual([2, 3, 6, 6])
  expect((bad.tensors.get("images")!.data() as Float32Array)[40]).toBeNaN()
  expect(bad.tensors.get("labels")!.data()).toEqual(batchOf(2).masks)

  const resumed = trainerOf("poisoned", { resume: true })
  expect(await resumed.trainer.train()).toBe(true)
  expect(losses(run)).toEqual(losses(straight.run))
  expect(lastState(run)).toEqual(lastState(straight.run))
})

test("of a matte the batch keeps alpha, which is what the loss saw", async () => {
  const alpha = new Float32Array(2 * 36).fill(Number.NaN)
  const { trainer, run } = trainerOf("matte", {
    objective: ({ logits }, truth) => logits.select(1, 0).mul(truth.alpha!).sum(),
    loader: source((step) => ({ ...batchOf(step), alpha })),
  })
  await failure(trainer.train())
  expect(loadSafetensors(run.file("bad-batch.safetensors")).tensors.get("alpha")!.data()).toEqual(alpha)
})

test.each([
  ["head", "head.weight", "the output of head (Conv2d) is not finite, nor is its weight"],
  ["a layer inside", "features.1.bias", "the output of features.1 (BatchNorm2d) is not finite, nor is its bias"],
  ["the first layer", "features.0.weight", "the output of features.0 (Conv2d) is not finite, nor is its weight"],
])("a weight that is not finite, in %s: named by its path", async (_, name, expected) => {
  const { trainer, model } = trainerOf(`weight-${name}`)
  const { message } = await failure(
    trainer.train({
      onStep({ step }) {
        using _ = noGrad()
        if (step === 2) model.stateDict().get(name)!.view([-1]).at(0).fill_(Number.POSITIVE_INFINITY)
      },
    }),
  )
  expect(message).toContain(`${expected}.`)
})

test("a layer that overflows with sound weights is named without them", async () => {
  const { trainer, model } = trainerOf("overflow")
  tidy(() => {
    using _ = noGrad()
    model.head.weight.fill_(3e38)
  })
  const { message } = await failure(trainer.train())
  expect(message).toContain("at step 1 (images a0, b0): the output of head (Conv2d) is not finite.")
})

test("a gradient that is not finite, of a loss that is: found before the step", async () => {
  const objective: Objective = ({ logits }) => logits.mul(0).sum().sqrt() // 0, with the slope infinity times 0
  const { trainer, model } = trainerOf("gradient", { objective })
  const before = Array.from(model.head.weight.data() as Float32Array)
  const { message } = await failure(trainer.train())
  expect(message).toContain(
    "The gradient of head.bias is not finite at step 1 (images a0, b0): every layer's output is finite.",
  )
  expect(Array.from(model.head.weight.data() as Float32Array)).toEqual(before)
  expect((model.features.modules[1] as BatchNorm2d).num_batches_tracked.item()).toBe(0)
})

test("with several batches a step, what failed is looked for with that batch's own random numbers", async () => {
  // Dropout doubles what it keeps: 2e38 becomes infinite in about half of the runs. Images without it cannot fail.
  class Dropping extends Module<[Tensor], SegmentationOutput> implements SegmentationModel {
    readonly dropout = new Dropout(0.5)
    readonly head = new Conv2d(3, 2, 1)
    readonly stride = 1
    readonly logitLayers = ["head"]
    protected override forward(image: Tensor): SegmentationOutput {
      return { logits: this.head.call(this.dropout.call(image)) }
    }
  }
  let failures = 0
  for (let seed = 0; seed < 12; seed++) {
    const model = tidy(() => new Dropping())
    const { trainer } = trainerOf(`dropping-${seed}`, {
      model,
      optimizer: new SGD(model.namedParameters(), 0),
      length: { steps: 1 },
      accumulate: 3,
      loader: source((step) =>
        batchOf(step, ({ images }) => {
          images.fill(0)
          if (step === 2) images[0] = 2e38
        }),
      ),
    })
    manualSeed(seed)
    const error = await trainer.train().catch((reason: Error) => reason)
    if (!(error instanceof TrainingError)) continue
    failures++
    expect(error.message).toContain("the output of dropout (Dropout) is not finite")
  }
  expect(failures).toBeGreaterThan(2)
})

test("a failing step leaves no tensors behind", async () => {
  const counts: { handles: number; bytes: number }[] = []
  for (const name of ["leak-1", "leak-2", "leak-3"]) {
    const { trainer, model, optimizer } = trainerOf(name, {
      loader: source((step) => batchOf(step, ({ images }) => step === 2 && images.fill(Number.NaN))),
    })
    await failure(trainer.train())
    model.zeroGrad()
    optimizer.dispose()
    model.dispose()
    counts.push({ handles: liveTensors(), bytes: memory().liveBytes })
  }
  expect(counts[2]).toEqual(counts[1])
})

// --- scaled gradients -----------------------------------------------------------------------------------------------------

/** A loss whose gradient overflows float32 at steps 1 and 2, as long as it is scaled by more than 2^120. */
const steep: Objective = ({ logits }, { labels }, { step }) => {
  const loss = crossEntropy(logits, labels)
  return step === 1 || step === 2
    ? loss.add(
        logits
          .sub(logits.detach())
          .sum()
          .mul(2 ** 8),
      )
    : loss
}

test("scaled by powers of two, the losses are those without", async () => {
  const plain = trainerOf("unscaled")
  await plain.trainer.train()
  const scaled = trainerOf("scaled", { scaler: new GradScaler({ growthInterval: 2 }) })
  await scaled.trainer.train()
  expect(losses(scaled.run)).toEqual(losses(plain.run))
  expect(lastState(scaled.run).values).toEqual(lastState(plain.run).values)
})

test("a step whose gradients overflow is left out and told: weights, momentum and running statistics stay, the scale halves", async () => {
  const told: [number, number][] = []
  const scaler = new GradScaler({ scale: 2 ** 121 })
  const { trainer, run, model } = trainerOf("overflowing", { scaler, objective: steep, length: { steps: 4 } })
  const state = () =>
    [...model.stateDict()].map(([name, tensor]) => [name, Array.from(tensor.data() as Float32Array, Number)])
  let before: unknown
  await trainer.train({
    onStep: ({ step }) => {
      if (step === 1) before = state()
    },
    onOverflow: (step, scale) => {
      told.push([step, scale])
      expect(state()).toEqual(before)
    },
  })
  expect(told).toEqual([
    [2, 2 ** 120],
    [3, 2 ** 119],
  ])
  expect(run.records().flatMap((record) => (record.kind === "step" ? [record.step] : []))).toEqual([1, 4])
  expect(trainer.state.step).toBe(4)
})

test("the scale is part of what a run goes on with", async () => {
  const parts = () => ({ scaler: new GradScaler({ growthInterval: 4 }) })
  const stop = new AbortController()
  const first = trainerOf("scale-kept", parts())
  await first.trainer.train({ signal: stop.signal, onStep: ({ step }) => step === 3 && stop.abort() })
  const given = parts()
  const resumed = trainerOf("scale-kept", { ...given, resume: true })
  expect(given.scaler.state).toEqual({ scale: 65536, goodSteps: 3 })
  await resumed.trainer.train()
  expect(given.scaler.state).toEqual({ scale: 2 ** 17, goodSteps: 2 })
})

test("gradients that overflow whatever the scale end the run, with the state before the step", async () => {
  const objective: Objective = ({ logits }) => logits.mul(0).sum().sqrt() // 0, with the slope infinity times 0
  const told: number[] = []
  const { trainer, run } = trainerOf("hopeless", { scaler: new GradScaler({ scale: 4 }), objective })
  const { message } = await failure(trainer.train({ onOverflow: (step) => told.push(step) }))
  expect(told).toEqual([1, 2])
  expect(message).toContain(
    "The gradient of head.bias is not finite in float16, whatever the loss is scaled by, at step 3 (images a2, b2): every layer's output is finite.",
  )
  expect(lastState(run).step).toBe(2)
})

// --- accumulation ---------------------------------------------------------------------------------------------------------

/** Batch-norm and dropout look at whole batches: without them. */
function still(model: Small): void {
  for (const [, module] of model.namedModules()) {
    if (module instanceof BatchNorm2d) module.frozen = true
  }
  Object.assign(model.features.modules[3]!, { p: 0 })
}

const joined = (step: number): Batch => {
  const [a, b] = [batchOf(2 * step), batchOf(2 * step + 1)]
  return {
    ...a,
    images: Float32Array.from([...a.images, ...b.images]),
    masks: Uint8Array.from([...a.masks, ...b.masks]),
    shape: [4, 6, 6],
    ids: [...a.ids, ...b.ids],
    step,
  }
}

test("two batches of two make the step of one of four, where all have equally many labelled pixels", async () => {
  const halves = trainerOf("halves", { accumulate: 2 })
  const whole = trainerOf("whole", { loader: source(joined) })
  for (const { model } of [halves, whole]) still(model)
  await halves.trainer.train()
  await whole.trainer.train()
  expect(losses(halves.run)).toEqual(losses(whole.run).map((loss) => expect.closeTo(loss, 6)))
  const expected = lastState(whole.run).values
  for (const [name, values] of Object.entries(lastState(halves.run).values)) {
    if (name === "rng") continue
    expect(values, name).toEqual(expected[name]!.map((value) => expect.closeTo(value, 6)))
  }
})

test("accumulate 1 changes no bit", async () => {
  const one = trainerOf("one", { accumulate: 1 })
  await one.trainer.train()
  const plain = trainerOf("plain") // now, with the same random numbers
  await plain.trainer.train()
  expect(losses(one.run)).toEqual(losses(plain.run))
  expect(lastState(one.run)).toEqual(lastState(plain.run))
})

test("a stop waits for the step's last batch, and the run goes on with the batch behind it", async () => {
  const stop = new AbortController()
  const loader = source((step) => {
    if (step === 4) stop.abort() // the second batch of the second step
    return batchOf(step)
  })
  const { trainer, run } = trainerOf("stop-accumulated", { accumulate: 3, loader })
  expect(await trainer.train({ signal: stop.signal })).toBe(false)
  expect(lastState(run).step).toBe(2)
  const rest = source(batchOf)
  const resumed = trainerOf("stop-accumulated", { accumulate: 3, loader: rest, resume: true })
  await resumed.trainer.train()
  expect(rest.started).toEqual([6])
  const straight = trainerOf("straight-accumulated", { accumulate: 3 })
  await straight.trainer.train()
  expect(losses(run)).toEqual(losses(straight.run))
  expect(lastState(run)).toEqual(lastState(straight.run))
})

test("an image that cannot be read in mid-step takes the half step back", async () => {
  const loader = source((step) => {
    if (step === 5) throw new UserError("b5.jpg is damaged.")
    return batchOf(step)
  })
  const { trainer, run } = trainerOf("damaged", { accumulate: 2, loader })
  await expect(trainer.train()).rejects.toThrow("b5.jpg is damaged.")
  trainer.save() // as train/run.ts does
  const stop = new AbortController()
  const sound = trainerOf("sound", { accumulate: 2 })
  await sound.trainer.train({ signal: stop.signal, onStep: ({ step }) => step === 2 && stop.abort() })
  expect(lastState(run)).toEqual(lastState(sound.run))
})

// --- clipping -------------------------------------------------------------------------------------------------------------

test("clipping: a step of plain SGD is no longer than rate times limit, and no coordinate moves further", async () => {
  const moved = async (name: string, clip: TrainerParts["clip"]): Promise<Float64Array> => {
    const { trainer, model } = trainerOf(name, { clip, schedule: () => 1, length: { steps: 1 } })
    const weights = () => model.parameters().flatMap((parameter) => Array.from(parameter.data() as Float32Array))
    const before = weights()
    await trainer.train()
    return Float64Array.from(weights().map((value, k) => value - before[k]!))
  }
  const length = (values: Float64Array) => Math.hypot(...values)
  const free = await moved("clip-none", undefined)
  const byNorm = await moved("clip-norm", { norm: 0.01 })
  const byValue = await moved("clip-value", { value: 0.002 })
  const byBoth = await moved("clip-both", { value: 0.002, norm: 0.003 })
  expect(Math.max(...byBoth.map(Math.abs))).toBeLessThan(0.1 * 0.002)
  expect(length(byBoth)).toBeCloseTo(0.1 * 0.003, 6)
  expect(length(free)).toBeGreaterThan(0.01)
  expect(length(byNorm)).toBeCloseTo(0.1 * 0.01, 6)
  expect(Math.max(...byValue.map(Math.abs))).toBeCloseTo(0.1 * 0.002, 6)
  for (const [k, value] of byNorm.entries()) expect(value / length(byNorm)).toBeCloseTo(free[k]! / length(free), 3)
})

test("each process above rank 0 draws numbers of its own, by seed and step", async () => {
  const drawnBy = async (rank: number, seed: number) => {
    const drawn: number[] = []
    const { trainer } = trainerOf(`rank-${rank}-${seed}-${Math.random()}`, {
      group: { ...alone, rank },
      seed,
      length: { steps: 3 },
      objective({ logits }, { labels }) {
        drawn.push(tidy(() => rand([1]).item()))
        return crossEntropy(logits, labels)
      },
    })
    await trainer.train()
    return drawn
  }
  const all = [await drawnBy(1, 0), await drawnBy(2, 0), await drawnBy(3, 0), await drawnBy(1, 1)].flat()
  expect(new Set(all).size).toBe(12)
  expect(await drawnBy(2, 0)).toEqual(all.slice(3, 6))
})

/** What a CUDA graph is, on the CPU: it does its work again and writes the memory of the first time, which itself changes nothing. */
function graphOf(model: Small, work: () => readonly Tensor[]): Replayable {
  using statistics = new KeptStatistics(model)
  using rng = rngState().keep()
  statistics.keep()
  const outputs = tidy(() => work().map((tensor) => tensor.clone().keep()))
  statistics.restore()
  setRngState(rng)
  return {
    outputs,
    replay: () =>
      tidy(() => {
        for (const parameter of model.parameters()) parameter.grad = null
        const again = work()
        using _ = noGrad()
        for (const [k, output] of outputs.entries()) output.copy_(again[k]!)
      }),
    [Symbol.dispose]: () => {
      for (const output of outputs) output.dispose()
    },
  }
}

test("a captured step gives the same run, also where a batch has another shape", async () => {
  const loader = () => source((step) => (step === 6 ? { ...batchOf(step), shape: [2, 4, 9] } : batchOf(step))) // the ordinary way
  const straight = trainerOf("not-captured", { loader: loader(), length: { steps: 9 } })
  await straight.trainer.train()
  const live = liveTensors()
  let replays = 0
  const { trainer, run, model, optimizer } = trainerOf("captured", {
    loader: loader(),
    length: { steps: 9 },
    capture: (work) => {
      const graph = graphOf(model, work)
      return {
        ...graph,
        replay: () => {
          replays++
          graph.replay()
        },
      }
    },
  })
  await trainer.train()
  expect(replays).toBe(5) // of nine steps all but three ordinary ones and that of the other shape
  expect(losses(run)).toEqual(losses(straight.run))
  expect(lastState(run)).toEqual(lastState(straight.run))
  optimizer.zeroGrad()
  model.dispose()
  optimizer.dispose()
  expect(liveTensors()).toBe(live)
})

test("a captured step whose loss is not finite is found and taken back, one that cannot be captured is named", async () => {
  const poisoned = source((step) => batchOf(step, ({ images }) => step === 4 && images.fill(Number.NaN, 40, 41)))
  const captured = trainerOf("captured-poisoned", {
    loader: poisoned,
    capture: (work) => graphOf(captured.model, work),
  })
  const { message } = await failure(captured.trainer.train())
  expect(message).toContain("The loss is NaN at step 5 (images a4, b4): these images themselves are not finite.")
  expect(lastState(captured.run)).toEqual(lastState(await stoppedAfter(4, "stopped-4")))

  const { trainer } = trainerOf("not-to-be-captured", {
    capture: () => {
      throw new OpError("operation not permitted when stream is capturing\nCompile with ...")
    },
  })
  await expect(trainer.train()).rejects.toThrow(
    "cudaGraph: this training's step cannot be captured: operation not permitted when stream is capturing. Train without.",
  )
  expect(() => trainerOf("accumulating", { accumulate: 2, capture: () => graphOf(captured.model, () => []) })).toThrow(
    "capture: expected one process, one batch a step and no scaler.",
  )
})
