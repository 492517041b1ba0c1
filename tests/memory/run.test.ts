// A whole training run, loader, optimizer and logging included, holds no more memory after 220 steps than after 20.
import { join } from "node:path"
import { expect, test } from "vitest"
import { generateShapes } from "../../src/data/shapes.ts"
import { liveTensors, memory } from "../../src/torch/index.ts"
import { parseConfig } from "../../src/train/config.ts"
import { startRun } from "../../src/train/run.ts"
import { temporaryFolder } from "../e2e/cli.ts"

const folder = temporaryFolder()

test("live tensors and allocator bytes stay flat over 200 steps", async () => {
  const data = join(folder, "shapes")
  await generateShapes(data, { train: 8, val: 2, size: [48, 48] })
  const config = parseConfig({
    data,
    width: 2,
    depth: 2,
    batchSize: 4,
    crop: [32, 32],
    steps: 220,
    evaluations: 1,
    workers: 1,
  })
  const tensors = new Set<number>()
  const bytes = new Set<number>()
  await startRun(config, join(folder, "run"), {
    onStep({ step }) {
      if (step <= 20) return
      tensors.add(liveTensors())
      bytes.add(memory().liveBytes)
    },
  })
  expect(tensors.size).toBe(1)
  expect(bytes.size).toBe(1)
}, 60_000)
