// pixelwise explain as a user calls it; and that a run does what its explanation says.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { parseConfig } from "../../src/train/config.ts"
import type { Explanation } from "../../src/train/explain.ts"
import { explainConfig } from "../../src/train/explain-config.ts"
import { startRun } from "../../src/train/run.ts"
import { RunFolder, type StepRecord } from "../../src/train/run-folder.ts"
import { pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const out = join(folder, "run")
const file = join(folder, "mine.yaml")
const tiny = { data, width: 2, depth: 1, batchSize: 4, crop: 32, threads: 1, evaluations: 1, workers: 0 }

beforeAll(async () => {
  await generateShapes(data, { train: 12, val: 2, size: [48, 48], seed: 3 })
  const given = { ...tiny, protocol: "tf-deeplab", model: "unet", steps: 7, slowStart: 2, classWeights: "enet" }
  await startRun(parseConfig(given), out)
  writeFileSync(file, "protocol: tf-deeplab\nmodel: lraspp\nencoder: mobilenet_v2_0.35\nlearningRate: 0.02\n")
})

const factOf = ({ sections }: Explanation, name: string) =>
  sections.flatMap(({ facts }) => facts).find((fact) => fact.name === name)?.value as Record<string, unknown>

test("a run keeps its protocol and every value, and makes the steps that its explanation says", async () => {
  const run = RunFolder.open(out)
  expect(JSON.parse(readFileSync(run.file("config.json"), "utf8"))).toMatchObject({
    ...{ protocol: "tf-deeplab", model: "unet", encoder: null, learningRate: 0.007, momentum: 0.9, weightDecay: 4e-5 },
    ...{ biasMultiplier: 2, weightReduction: "pixels", classWeights: "enet", crop: [32, 32], steps: 7, epochs: null },
  })
  const explanation = await explainConfig(run.config, { run })
  const steps = run.records().filter((record): record is StepRecord => record.kind === "step")
  expect(explanation.curve.map(({ step, rate }) => [step + 1, rate])).toEqual(
    steps.map(({ step, learningRate }) => [step, learningRate]),
  )
  expect(factOf(explanation, "length")).toEqual({ steps: 7, seconds: null, epochs: 7 / 3 })
  expect(factOf(explanation, "denominator")).toBe("sum(weight x loss) / number of pixels that are not void")
  const kept = JSON.parse(readFileSync(run.file("class-weights.json"), "utf8")).weights
  expect(factOf(explanation, "class weights")).toEqual({ rule: "enet", weights: Object.values(kept), beta: null })
  // The same from the command line, and nothing is written.
  const before = readdirSync(out)
  const { stdout, stderr, code } = await pixelwise("explain", out, "--json")
  expect([stderr, code]).toEqual(["", 0])
  expect(JSON.parse(stdout)).toEqual(JSON.parse(JSON.stringify(explanation)))
  expect(readdirSync(out)).toEqual(before)
})

test("a run whose data is gone is explained all the same", async () => {
  const config = JSON.parse(readFileSync(join(out, "config.json"), "utf8"))
  const moved = join(folder, "moved")
  await startRun(parseConfig({ ...tiny, steps: 1 }), moved)
  writeFileSync(join(moved, "config.json"), JSON.stringify({ ...config, data: join(folder, "gone") }))
  writeFileSync(join(moved, "class-weights.json"), readFileSync(join(out, "class-weights.json")))
  const { stdout, code } = await pixelwise("explain", moved, "--json")
  expect(code).toBe(0)
  expect(factOf(JSON.parse(stdout), "classes")).toEqual(RunFolder.open(out).labelMap.classes.map(({ name }) => name))
  rmSync(moved, { recursive: true })
})

test("for people: preprocessing in order, rates with a plot, factors of each group", async () => {
  const { stdout, stderr, code } = await pixelwise("explain", file, "--steps", "2000", "--slow-start", "100")
  expect([stderr, code]).toEqual(["", 0])
  expect(stdout).toMatch(/1 scale +one of 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, all as likely/)
  expect(stdout).toMatch(/classes +21, unless the data says otherwise/)
  expect(stdout).toMatch(/last slow step +0.0001 {2}\(step 99\)/)
  expect(stdout).toMatch(/schedule begins +0.02 {2}\(step 100\)/)
  expect(stdout).toMatch(/0.02 \| +█/)
  expect(stdout).toMatch(/logits, biases +2 tensors +42 numbers {2}rate x 1, gradient x 2, decay 0/)
  expect(stdout).toContain("Note: With a batch-norm momentum of 0.0003, 55 %")
  expect(stdout).not.toContain("classifier.cbr.0.weight")
  const listed = await pixelwise("explain", "--config", file, "--parameters")
  expect(listed.stdout).toMatch(
    /classifier.cbr.0.weight +weight \[128, 1280, 1, 1\]: rate x 1, gradient x 1, decay 0.00004/,
  )
})

test("with data its counts are real", async () => {
  const { stdout } = await pixelwise(
    ...["explain", file, "--data", data, "--epochs", "4", "--batch-size", "5", "--accumulate", "2", "--json"],
    ...["--class-weights", "median", "--crop-classes", "rare"],
  )
  const explanation = JSON.parse(stdout) as Explanation
  expect(factOf(explanation, "length")).toEqual({ steps: 4, seconds: null, epochs: 4 }) // 12 images, 2 batches of 5
  expect(explanation.config.steps).toBeNull()
  expect((factOf(explanation, "class weights").weights as number[]).length).toBe(
    (factOf(explanation, "classes") as unknown as string[]).length,
  )
  expect(factOf(explanation, "crop").classes).not.toContain("rare")
})

test("of two, what differs and nothing else", async () => {
  const same = ["--model", "lraspp", "--encoder", "mobilenet_v2_0.35", "--steps", "100"]
  const { stdout, code } = await pixelwise("explain", "protocol:tf-deeplab", file, ...same, "--json")
  expect(code).toBe(0)
  expect(JSON.parse(stdout).options).toEqual([{ key: "learningRate", a: 0.007, b: 0.02 }])
  const text = (await pixelwise("explain", "protocol:tf-deeplab", file, ...same)).stdout
  expect(text).toMatch(/learningRate +0.007 +0.02/)
  expect(text).toMatch(/half +0.003751 \(step 50\) +0.01072 \(step 50\)/)
  expect(text).not.toContain("Preprocessing")
  const equal = await pixelwise("explain", "tf-deeplab", "protocol:tf-deeplab")
  expect(equal.stdout.trim()).toBe("tf-deeplab and protocol:tf-deeplab do the same.")
})

test("--svg draws rates and mined shares, of two side by side", async () => {
  const svg = join(folder, "rates.svg")
  const mined = ["--top-k", "0.25", "--mining-steps", "50", "--steps", "100"]
  const { stderr } = await pixelwise("explain", file, "protocol:tf-deeplab", ...mined, "--svg", svg)
  expect(stderr).toContain(`Wrote ${svg}.`)
  const drawn = readFileSync(svg, "utf8")
  expect(drawn).toContain("<title>Learning rate; Mined pixels</title>")
  expect(drawn.match(/<polyline/g)).toHaveLength(4)
  expect(drawn).toContain(">protocol:tf-deeplab</text>")
  expect(drawn).toContain(">0.015</text>") // between 0 and 0.02, in full
})

test("none takes back what a protocol or a file says", async () => {
  const { stdout } = await pixelwise("explain", file, "--batch-norm-momentum", "none", "--encoder", "none", "--json")
  expect(JSON.parse(stdout).config).toMatchObject({ batchNormMomentum: null, encoder: null, learningRate: 0.02 })
})

test.each([
  [
    ["nothing-here"],
    "There is nothing to explain at nothing-here; expected a run, a YAML or JSON file, or a protocol: protocol:tf-deeplab, protocol:torchvision.",
  ],
  [
    ["protocol:tf-deplab"],
    'protocol:tf-deplab is "tf-deplab": expected one of "tf-deeplab"|"torchvision". Did you mean "tf-deeplab"?',
  ],
  [["--protocol", "deeplab"], '--protocol is "deeplab": expected one of "tf-deeplab"|"torchvision".'],
  [["tf-deeplab", "--config", "x.yaml"], "--config x.yaml and tf-deeplab both say what to explain: give one."],
  [["--freeze", "some"], '--freeze is "some": expected one of 0|2|4|8|16.'],
  [
    ["tf-deeplab", "--class-weights", "median", "--loss", "dice"],
    "--weight-reduction of the protocol tf-deeplab is about losses of pixels, and dice has none.",
  ],
  [
    ["tf-deeplab", "--slow-start", "40000"],
    "slowStart is 40000 steps and the run has 30000: its schedule would never begin.",
  ],
  [
    ["torchvision", "--model", "unet", "--aux", "true"],
    "The model unet has no aux. Its options: encoder, width, depth, upsampling.",
  ],
  [["--data", "nowhere"], "Cannot open the data set folder nowhere"],
])("%o: one sentence", async (args, sentence) => {
  const { code, stdout, stderr } = await pixelwise("explain", ...args)
  expect([code, stdout]).toEqual([2, ""])
  expect(stderr.trim().split("\n")).toEqual([expect.stringContaining(`pixelwise: ${sentence}`)])
})
