// Training and using a model in bfloat16, as a user does.
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { matrixOf } from "../../src/metrics/evaluation.ts"
import { summarize } from "../../src/metrics/index.ts"
import { buildInfo } from "../../src/torch/index.ts"
import { loadSafetensors } from "../../src/torch/safetensors.ts"
import { parseConfig } from "../../src/train/config.ts"
import { evaluateRun } from "../../src/train/evaluate-run.ts"
import { resumeRun, startRun } from "../../src/train/run.ts"
import type { RunFolder } from "../../src/train/run-folder.ts"
import { pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const small = { data, width: 8, depth: 2, upsampling: "bilinear", batchSize: 4, crop: [32, 32], scale: [1, 1] }
const config = (changes: object) =>
  parseConfig({ ...small, learningRate: 0.01, threads: 1, evaluations: 2, ...changes })
const losses = (run: RunFolder) => run.records().flatMap((record) => (record.kind === "step" ? [record.loss] : []))

beforeAll(() => generateShapes(data, { train: 12, val: 6, size: [48, 48], seed: 3 }))

test("a tiny model learns in bfloat16 what it learns in float32; its weights are float32, and the run says how it was made", async () => {
  const notices: string[] = []
  const runs = await Promise.all(
    (["float32", "bfloat16"] as const).map((precision) =>
      startRun(config({ precision, steps: 120 }), join(folder, precision), { onNotice: (text) => notices.push(text) }),
    ),
  )
  const [exact, rounded] = runs.map(({ run }) => losses(run)) as [number[], number[]]
  expect(rounded).not.toEqual(exact)
  const end = (all: number[]) => all.slice(-20).reduce((sum, loss) => sum + loss, 0) / 20
  expect(end(rounded)).toBeLessThan(0.5 * rounded[0]!)
  expect(Math.abs(end(rounded) - end(exact))).toBeLessThan(0.1 * end(exact))
  const { run } = runs[1]!
  for (const file of ["best.safetensors", "last.safetensors"]) {
    for (const [name, tensor] of loadSafetensors(run.file(file)).tensors)
      if (!/rng|num_batches|step/.test(name)) expect(tensor.dtype, name).toBe("float32")
  }
  expect(run.config.precision).toBe("bfloat16")
  expect(JSON.parse(readFileSync(run.file("versions.json"), "utf8")).precision).toBe("bfloat16")
  expect(notices.filter((text) => text.includes("bfloat16"))).toHaveLength(buildInfo().bfloat16 === null ? 1 : 0)
  const { stdout } = await pixelwise("explain", run.path)
  expect(stdout).toMatch(/precision +convolutions in bfloat16/)
})

test("evaluation is in the run's precision unless another is asked for", async () => {
  const { run, scores } = await startRun(
    config({ precision: "bfloat16", steps: 40, evaluations: 1 }),
    join(folder, "evaluated"),
  )
  const meanIoU = async (inference = {}) =>
    summarize(matrixOf(await evaluateRun(run, { inference })), run.labelMap).meanIoU
  expect(await meanIoU()).toBe(scores!.meanIoU)
  expect(await meanIoU({ precision: "bfloat16" })).toBe(scores!.meanIoU)
  const exact = await meanIoU({ precision: "float32" })
  expect(exact).not.toBe(scores!.meanIoU)
  expect(exact).toBeCloseTo(scores!.meanIoU!, 1)
  const { stdout, stderr, code } = await pixelwise("eval", "--run", run.path, "--precision", "float32")
  expect(code).toBe(0)
  expect(stdout + stderr).toContain("split val, in float32")
})

test("a run in bfloat16 that was stopped goes on to the bit", async () => {
  const settings = config({ precision: "bfloat16", steps: 6 })
  const straight = await startRun(settings, join(folder, "straight"))
  const stop = new AbortController()
  const stopped = await startRun(settings, join(folder, "stopped"), {
    signal: stop.signal,
    onStep: ({ step }) => step === 3 && stop.abort(),
  })
  const resumed = await resumeRun(stopped.run.path)
  expect(losses(resumed.run)).toEqual(losses(straight.run))
  expect(resumed.scores).toEqual(straight.scores)
  const weights = ({ run }: typeof straight) =>
    [...loadSafetensors(run.file("best.safetensors")).tensors].map(([name, tensor]) => [name, tensor.data()])
  expect(weights(resumed)).toEqual(weights(straight))
})

test("what cannot be had is refused in words", async () => {
  const out = join(folder, "refused")
  const hasCuda = buildInfo().cudaDevices > 0
  const train = (...flags: string[]) => pixelwise("train", "--data", data, "--out", out, "--steps", "1", ...flags)
  const evaluate = (...flags: string[]) => pixelwise("eval", "--run", join(folder, "evaluated"), ...flags)
  const noFloat16 =
    /^pixelwise: precision is float16, which libtorch computes on CUDA only, and the device is cpu; expected bfloat16 or float32\.\n$/
  const noCuda = /^pixelwise: device is cuda, but libtorch [\d.]+ finds no CUDA device; expected cpu/
  const refused = await Promise.all([
    train("--precision", "float16"),
    evaluate("--precision", "float16"),
    ...(hasCuda ? [] : [train("--device", "cuda"), evaluate("--device", "cuda")]),
  ])
  for (const { code } of refused) expect(code).toBe(2)
  const expected = [noFloat16, noFloat16, noCuda, noCuda]
  for (const [k, { stderr }] of refused.entries()) expect(stderr.replace(/.*\r/g, "")).toMatch(expected[k]!)
  expect(existsSync(out)).toBe(false)
  expect(() => config({ precision: "bf16" })).toThrow('"precision" is "bf16": expected one of')
  expect(() => config({ device: "gpu" })).toThrow('"device" is "gpu": expected cpu, cuda, or cuda:1 for the second.')
})
