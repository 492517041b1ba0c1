// What a run begins with: --weights, --init-from, folded batch-norm. On a small generated data set and a very narrow encoder.
import { cpSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { createClassifier, createEncoder, createModel, type SegmentationModel } from "../../src/models/index.ts"
import { BatchNorm2d, foldedBatchNorms, init } from "../../src/nn/index.ts"
import { manualSeed, saveSafetensors, type Tensor, tidy } from "../../src/torch/index.ts"
import { loadSafetensors } from "../../src/torch/safetensors.ts"
import { parseConfig } from "../../src/train/config.ts"
import { initializeModel } from "../../src/train/initialize.ts"
import { resumeRun, startRun } from "../../src/train/run.ts"
import type { RunFolder } from "../../src/train/run-folder.ts"
import { pixelwise, temporaryFolder } from "./cli.ts"

const ENCODER = "mobilenet_v2_0.05"
const folder = temporaryFolder()
const data = join(folder, "shapes")
const weights = join(folder, "classifier.safetensors")
const foldedWeights = join(folder, "folded.safetensors")
const small = {
  data,
  model: "lraspp",
  encoder: ENCODER,
  batchSize: 4,
  crop: [32, 32],
  steps: 1,
  evaluations: 1,
  threads: 1,
}
const nothing = 1e-12 // a learning rate that leaves weights as they are

const config = (changes: object) => parseConfig({ ...small, ...changes })
const values = (tensor: Tensor | undefined) => Array.from(tensor!.data() as Float32Array)
const last = (run: RunFolder) => loadSafetensors(run.file("last.safetensors")).tensors
const modelWith = (numClasses: number, options = {}): SegmentationModel =>
  createModel("lraspp", { encoder: ENCODER, numClasses, ...options })

beforeAll(async () => {
  await generateShapes(data, { train: 8, val: 2, size: [48, 48], seed: 3 })
  manualSeed(5)
  using classifier = createClassifier(ENCODER, { numClasses: 7 })
  const notes = { preprocess: "x/127.5-1 RGB", padding: "TF SAME: stride-2 convs pad (0,1,0,1)" }
  saveSafetensors(weights, classifier.stateDict(), notes)
  for (const [, module] of classifier.namedModules()) if (module instanceof BatchNorm2d) init.normal_(module.bias, 0, 1)
  saveSafetensors(foldedWeights, classifier.stateDict(), notes)
  await startRun(config({}), join(folder, "RUN"))
})

test("--weights go into the encoder and decide how images are prepared, in training and after it", async () => {
  const { run } = await startRun(config({ weights, learningRate: nothing }), join(folder, "encoder"))
  const expected = {
    normalization: "symmetric",
    padding: "tensorflow",
    batchNorm: "train",
    headRate: 10,
    freeze: 4,
    weights,
  }
  expect(run.config).toMatchObject(expected)
  const given = loadSafetensors(weights).tensors
  const state = last(run)
  for (const name of ["0.0.weight", "9.conv.1.0.weight", "18.1.weight"]) {
    expect(values(state.get(`model.backbone.${name}`))).toEqual(values(given.get(`features.${name}`)))
  }
  const { metadata } = loadSafetensors(run.file("best.safetensors"))
  expect(metadata).toMatchObject({ normalization: "symmetric", padding: "tensorflow" })

  const evaluated = await pixelwise("eval", "--run", run.path, "--json")
  expect(JSON.parse(evaluated.stdout).scores).toEqual(JSON.parse(readFileSync(run.file("scores.json"), "utf8")))
}, 60_000)

test("a choice of the user's wins over the weights'", async () => {
  const options = { weights, normalization: "imagenet", padding: "symmetric" }
  const { run } = await startRun(config(options), join(folder, "chosen"))
  expect(run.config).toMatchObject({ normalization: "imagenet", padding: "symmetric" })
}, 60_000)

test("--resume does not read the weights again", async () => {
  const path = join(folder, "gone.safetensors")
  cpSync(weights, path)
  const { run } = await startRun(config({ weights: path }), join(folder, "resumed"))
  writeFileSync(path, "no weights any more")
  const { completed, run: resumed } = await resumeRun(run.path, { steps: 2 })
  expect(resumed.config).toMatchObject({ headRate: 10, normalization: "symmetric", padding: "tensorflow" })
  expect(completed).toBe(true)
}, 60_000)

test("folded batch-norm is noticed and unfolded; frozen, it stays as it is", async () => {
  const notices: string[] = []
  const onNotice = (text: string) => notices.push(text)
  const auto = await startRun(config({ weights: foldedWeights }), join(folder, "unfolded"), { onNotice })
  expect(auto.run.config.batchNorm).toBe("unfold")
  expect(notices).toEqual([expect.stringMatching(/batch-norm is folded.*52 layers got statistics/)])

  const frozen = config({ weights: foldedWeights, batchNorm: "frozen" })
  const { run } = await startRun(frozen, join(folder, "frozen"), { onNotice })
  expect(notices.at(-1)).toMatch(/folded .* and stays so/)
  const before = loadSafetensors(foldedWeights).tensors
  const after = last(run)
  expect(values(after.get("model.backbone.18.1.running_var"))).toEqual(values(before.get("features.18.1.running_var")))
  expect(values(after.get("model.backbone.18.1.weight"))).not.toEqual(values(before.get("features.18.1.weight")))

  const spoilt = config({ weights: foldedWeights, batchNorm: "train" })
  await startRun(spoilt, join(folder, "spoilt"), { onNotice })
  expect(notices.at(-1)).toMatch(/will destroy what they know/)
}, 60_000)

test("--freeze keeps the first layers as they were, statistics included; --head-rate is the others'", async () => {
  const options = { weights, freeze: 4, headRate: 1 / nothing, learningRate: nothing }
  const { run } = await startRun(config(options), join(folder, "freeze"))
  const [before, after] = [loadSafetensors(weights).tensors, last(run)]
  const same = (name: string) =>
    expect(values(after.get(`model.backbone.${name}`)), name).toEqual(values(before.get(`features.${name}`)))
  same("0.0.weight")
  same("3.conv.3.running_mean") // the last of stride 4
  same("4.conv.0.0.weight") // learns, but slowly
  expect(values(after.get("model.backbone.4.conv.0.1.running_mean"))).not.toEqual(
    values(before.get("features.4.conv.0.1.running_mean")),
  )
  const names = [...after.keys()].filter((name) => name.startsWith("optimizer.exp_avg."))
  expect(names.some((name) => name.includes("backbone.3."))).toBe(false)
  expect(names.some((name) => name.includes("backbone.4."))).toBe(true)
  expect(run.config).toMatchObject({ headRate: 1 / nothing, freeze: 4 })
}, 60_000)

test("--init-from a run: all its weights, and its preprocessing", async () => {
  const { run } = await startRun(config({ weights }), join(folder, "first"))
  const options = { initFrom: run.path, learningRate: nothing, weights: null }
  const second = await startRun(config(options), join(folder, "second"))
  expect(second.run.config).toMatchObject({ normalization: "symmetric", padding: "tensorflow" })
  const [before, after] = [loadSafetensors(run.file("best.safetensors")).tensors, last(second.run)]
  for (const name of ["backbone.0.0.weight", "classifier.cbr.0.weight", "classifier.high_classifier.weight"]) {
    const difference = tidy(() => after.get(`model.${name}`)!.sub(before.get(name)!).abs().max().item())
    expect(difference).toBeLessThan(1e-6)
  }
}, 60_000)

const named = (count: number) => Array.from({ length: count }, (_, k) => `class ${k}`)

test("other classes get a new last layer, all else is taken over", () => {
  using five = modelWith(5)
  const weights = { path: "five", tensors: five.stateDict() }
  using three = modelWith(3)
  const head = values(three.stateDict().get("classifier.high_classifier.weight"))
  expect(initializeModel(three, weights, named(3))).toBe(true)
  expect(values(three.stateDict().get("classifier.high_classifier.weight"))).toEqual(head)
  expect(values(three.stateDict().get("classifier.cbr.0.weight"))).toEqual(
    values(five.stateDict().get("classifier.cbr.0.weight")),
  )

  using same = modelWith(5)
  expect(initializeModel(same, { ...weights, classNames: named(5) }, named(5))).toBe(false)
  expect(values(same.stateDict().get("classifier.low_classifier.bias"))).toEqual(
    values(five.stateDict().get("classifier.low_classifier.bias")),
  )
  using others = modelWith(5) // as many, but in another order
  expect(initializeModel(others, { ...weights, classNames: named(5) }, named(5).reverse())).toBe(true)
  using fresh = modelWith(5)
  expect(initializeModel(fresh, weights, named(5), { initializeLastLayer: false })).toBe(true)
  expect(values(fresh.stateDict().get("classifier.low_classifier.bias"))).not.toEqual(
    values(five.stateDict().get("classifier.low_classifier.bias")),
  )
  expect(values(fresh.stateDict().get("backbone.0.0.weight"))).toEqual(
    values(five.stateDict().get("backbone.0.0.weight")),
  )
})

test("an auxiliary head that the model does not have is left out", () => {
  using withAux = createModel("fcn", { encoder: ENCODER, numClasses: 3, outputStride: 32, aux: true })
  using without = createModel("fcn", { encoder: ENCODER, numClasses: 3, outputStride: 32 })
  expect(initializeModel(without, { path: "aux", tensors: withAux.stateDict() }, named(3))).toBe(false)
})

test.each([
  [
    "both",
    ["--weights", "a", "--init-from", "b"],
    /--weights is for the encoder and --init-from for the whole model.*give one/,
  ],
  ["neither file nor name", ["--weights", "resnet5"], /resnet5.*does not exist.*Did you mean "resnet50"/],
  ["a model without encoder", ["--weights", weights, "--model", "unet"], /unet has layers of its own.*--encoder/],
  [
    "another encoder",
    ["--weights", weights, "--encoder", "resnet18"],
    /classifier\.safetensors: .*does not fit ResNet/,
  ],
  ["an encoder alone", ["--init-from", "ENCODER"], /does not fit LRASPP.*missing/],
  ["not a run yet", ["--init-from", "EMPTY"], /EMPTY: it does not exist/],
  ["a run as encoder weights", ["--weights", "RUN"], /RUN is a run.*--init-from/],
  [
    "a run of another model",
    ["--init-from", "RUN", "--encoder", "resnet18"],
    /trained lraspp on mobilenet_v2_0.05, this one is to train lraspp on resnet18/,
  ],
  [
    "weights of another encoder",
    ["--weights", "resnet50", "--encoder", "resnet18"],
    /are for the encoder resnet50; this model has resnet18/,
  ],
  [
    "a classifier as a model",
    ["--init-from", "resnet18", "--encoder", "resnet18"],
    /ImageNet classifier.*--weights resnet18/,
  ],
  ["freezing what is random", ["--freeze", "4"], /--freeze keeps layers.*--weights or --init-from/],
  ["a head rate without encoder", ["--head-rate", "5", "--model", "unet"], /headRate: this model has no encoder/],
  ["the weight of no loss", ["--aux-weight", "0.5"], /auxWeight: this model has no auxiliary head/],
  ["a last layer of nothing", ["--initialize-last-layer", "false"], /--initialize-last-layer is about --init-from/],
  ["no such encoder", ["--encoder", "resnet19"], /Unknown encoder "resnet19"\. Did you mean "resnet18"/],
  ["no such option", ["--output-stride", "8", "--model", "unet"], /unet has no outputStride/],
  ["a wrong output stride", ["--output-stride", "12"], /--output-stride is 12/],
])(
  "%s: one sentence, exit code 2, nothing written",
  async (_, flags, message) => {
    const encoderOnly = join(folder, "encoder-only.safetensors")
    using encoder = createEncoder(ENCODER)
    saveSafetensors(encoderOnly, encoder.stateDict())
    const out = join(folder, "refused")
    const given = flags.map((flag) =>
      flag === "ENCODER" ? encoderOnly : ["EMPTY", "RUN"].includes(flag) ? join(folder, flag) : flag,
    )
    const defaults = ["--model", "--encoder"].flatMap((flag, k) =>
      flags.includes("--model") || flags.includes(flag) ? [] : [flag, ["lraspp", ENCODER][k]!],
    )
    const { code, stderr } = await pixelwise(
      "train",
      "--data",
      data,
      "--out",
      out,
      "--steps",
      "1",
      ...defaults,
      ...given,
    )
    expect(stderr).toMatch(message)
    expect(stderr.trim().split("\n")).toHaveLength(1)
    expect(code).toBe(2)
    expect(() => readFileSync(join(out, "config.json"))).toThrow()
  },
  30_000,
)

test("new layers do not count as folded", () => {
  using model = modelWith(3)
  expect(foldedBatchNorms(model)).toHaveLength(0)
})
