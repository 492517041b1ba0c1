// train --profile: a file in the Trace Event Format, whose slices lie in each other, and a summary that adds up.
import { readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { createModel } from "../../src/models/index.ts"
import { isProfiling } from "../../src/torch/index.ts"
import { parseConfig } from "../../src/train/config.ts"
import { startRun } from "../../src/train/run.ts"
import type { ProfileSummary, TraceEvent } from "../../src/train/trace.ts"
import { pixelwise, temporaryFolder } from "./cli.ts"

const folder = temporaryFolder()
const data = join(folder, "shapes")
const small = { data, width: 4, depth: 2, upsampling: "bilinear", batchSize: 2, crop: [32, 32], threads: 1, workers: 1 }

interface Profiled {
  summary: ProfileSummary
  events: TraceEvent[]
  seconds: readonly number[]
}

async function profiled(name: string, changes: object): Promise<Profiled> {
  let summary: ProfileSummary | undefined
  const out = join(folder, name)
  const config = parseConfig({ ...small, evaluations: 1, ...changes })
  const { run } = await startRun(config, out, {
    profile: true,
    onProfile: (found, file) => {
      summary = found
      expect(file).toBe(join(out, "profile.json"))
    },
  })
  expect(isProfiling()).toBe(false)
  const { traceEvents } = JSON.parse(readFileSync(run.file("profile.json"), "utf8"))
  const records = run.records().flatMap((record) => (record.kind === "step" ? [record.seconds] : []))
  return { summary: summary!, events: traceEvents, seconds: records }
}

const complete = (events: readonly TraceEvent[]) =>
  events.filter(({ ph }) => ph === "X") as Required<Pick<TraceEvent, "ts" | "dur" | "cat" | "args" | "name" | "tid">>[]
const within = (inner: { ts: number; dur: number }, outer: { ts: number; dur: number }) =>
  inner.ts >= outer.ts && inner.ts + inner.dur <= outer.ts + outer.dur + 2e-3 // rounding to nanoseconds

let plain: Profiled
beforeAll(async () => {
  await generateShapes(data, { train: 12, val: 4, size: [48, 48], seed: 3 })
  plain = await profiled("plain", { steps: 15, accumulate: 2, evaluations: 3 })
})

test("every event is one of the Trace Event Format, and every lane has a name", () => {
  const { events } = plain
  const lanes = new Set<number>()
  for (const event of events) {
    expect(typeof event.name).toBe("string")
    expect([event.pid, event.tid].every(Number.isInteger)).toBe(true)
    if (event.ph === "M") {
      expect(["process_name", "thread_name", "thread_sort_index"]).toContain(event.name)
      if (event.name === "thread_name") lanes.add(event.tid)
      continue
    }
    expect(event.ph).toBe("X")
    expect(event.ts).toBeGreaterThanOrEqual(0)
    expect(event.dur).toBeGreaterThanOrEqual(0)
    expect(event.cat).toMatch(/^(operator|backward|module|phase|loader)$/)
  }
  expect(lanes).toEqual(new Set(events.map(({ tid }) => tid)))
})

test("slices of a lane lie in each other or beside each other, never across", () => {
  const open = new Map<number, { ts: number; dur: number }[]>()
  for (const event of complete(plain.events)) {
    const around = open.get(event.tid) ?? []
    while (around.length > 0 && around.at(-1)!.ts + around.at(-1)!.dur <= event.ts + 2e-3) around.pop()
    if (around.length > 0) expect(within(event, around.at(-1)!), JSON.stringify(event)).toBe(true)
    around.push(event)
    open.set(event.tid, around)
  }
})

test("ten steps with their phases; operators with shapes, in modules that the model has; derivatives know their module", () => {
  const events = complete(plain.events)
  const steps = events.filter(({ name }) => name.startsWith("step "))
  expect(steps.map(({ name }) => name)).toEqual(Array.from({ length: 10 }, (_, k) => `step ${k + 6}`))
  using model = createModel("unet", { width: 4, depth: 2, upsampling: "bilinear", numClasses: 6 })
  const paths = new Set(Array.from(model.namedModules(), ([path, module]) => path || module.constructor.name))
  for (const step of steps) {
    const inside = events.filter((event) => event.tid === step.tid && within(event, step))
    const count = (name: string) => inside.filter((event) => event.name === name).length
    expect(
      Object.fromEntries(
        ["waiting for data", "forward", "loss", "backward", "optimizer"].map((name) => [name, count(name)]),
      ),
    ).toEqual({
      "waiting for data": 2,
      forward: 2,
      loss: 2,
      backward: 2,
      optimizer: 1,
    })
    const modules = inside.filter(({ cat }) => cat === "module")
    for (const { name } of modules) expect(paths).toContain(name)
    const conv = modules.find(({ name }) => name === "down.0.0")!
    expect(conv.args).toEqual({ type: "Conv2d" })
    const operator = inside.find((event) => event.name === "aten::conv2d" && within(event, conv))!
    expect(operator.args.shapes).toMatch(/^\[2, 3, 32, 32\] \[4, 3, 3, 3\]/)
    const derivatives = inside.filter(({ name }) => name === "ConvolutionBackward0").map(({ args }) => args.module)
    expect(derivatives).toContain("down.0.0")
    for (const path of derivatives) expect(paths).toContain(path)
  }
})

test("the loader's thread has a lane of its own, where samples are decoded and transformed", () => {
  const spans = complete(plain.events).filter(({ cat }) => cat === "loader")
  const lane = plain.events.find(({ name, args }) => name === "thread_name" && /^loader \d+$/.test(String(args?.name)))!
  expect(new Set(spans.map(({ tid }) => tid))).toEqual(new Set([lane.tid]))
  for (const name of ["decode", "transform"])
    expect(spans.filter((span) => span.name === name).length).toBeGreaterThan(20)
})

test("the summary's shares add up, and the self times of operators are what they take together", () => {
  const { steps, stepTime, unprofiledTime, shares, operators } = plain.summary
  expect(steps).toBe(10)
  expect(stepTime).toBeGreaterThan(0)
  expect(unprofiledTime).toBeGreaterThan(0)
  for (const share of Object.values(shares)) expect(share).toBeGreaterThanOrEqual(0)
  expect(Object.values(shares).reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 9)
  expect(operators.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(shares.operators, 6)
  expect(operators.map(({ name }) => name)).toContain("aten::convolution_backward")
  const slices = complete(plain.events).filter(({ name }) => name.startsWith("step "))
  const middle = slices.map(({ dur }) => dur / 1000).sort((a, b) => a - b)
  expect(stepTime).toBeGreaterThanOrEqual(middle[0]!)
  expect(stepTime).toBeLessThanOrEqual(middle.at(-1)!)
})

test("of three steps all but the first are profiled, a single one is; without workers images are made in the main lane", async () => {
  const { summary, events } = await profiled("short", { steps: 3, workers: 0 })
  expect([summary.steps, summary.unprofiledTime]).toEqual([2, null])
  expect((await profiled("single", { steps: 1, workers: 0 })).summary.steps).toBe(1)
  const loading = complete(events).filter(({ cat }) => cat === "loader")
  const waits = complete(events).filter(({ name }) => name === "waiting for data")
  for (const span of loading) expect(waits.some((wait) => wait.tid === span.tid && within(span, wait))).toBe(true)
})

test("on the command line it says where the time went; the file is small; without --profile there is none", async () => {
  const flags = [
    "--width",
    "4",
    "--depth",
    "2",
    "--crop",
    "32",
    "--batch-size",
    "2",
    "--evaluations",
    "1",
    "--no-report",
  ]
  const out = join(folder, "cli")
  const { code, stdout } = await pixelwise(
    "train",
    "--data",
    data,
    "--out",
    out,
    ...flags,
    "--steps",
    "12",
    "--profile",
  )
  expect(code).toBe(0)
  expect(stdout).toMatch(/Profile of 10 steps of [\d.]+ ms \([\d.]+ in those before, without profile\):/)
  expect(stdout).toMatch(/% outside libtorch\n +[\d.]+ % waiting for data/)
  expect(stdout).toContain("profile.json shows each of them")
  expect(statSync(join(out, "profile.json")).size).toBeLessThan(20e6)
  const json = await pixelwise(
    "train",
    "--data",
    data,
    "--out",
    join(folder, "none"),
    ...flags,
    "--steps",
    "1",
    "--json",
  )
  expect(json.stdout).not.toContain('"profile"')
})
