// Time of a training step and of inference in float32 and in bfloat16, taking turns, so that a change of the machine's speed meets both.
//   node scripts/with-node.mjs bench/precision-time.ts [--rounds 9] [--threads 2] [--only lraspp] [--cpu]
// --cpu: processor time instead of time on the clock, which says something on a busy machine too, with --threads 1.

import { availableParallelism, cpus } from "node:os"
import { parseArgs } from "node:util"
import { median } from "../src/arrays.ts"
import { table } from "../src/cli/output.ts"
import { createObjective } from "../src/losses/objective.ts"
import { callAtStride, callIn, createModel, type ModelOptions } from "../src/models/index.ts"
import { AdamW } from "../src/optim/index.ts"
import { buildInfo, noGrad, type Precision, randint, randn, setThreads, tidy } from "../src/torch/index.ts"

type Shape = readonly [n: number, h: number, w: number]
interface Workload {
  readonly model: string
  readonly options: Partial<ModelOptions>
  readonly step: Shape
  readonly inference: Shape
}

const workloads: Record<string, Workload> = {
  lraspp: { model: "lraspp", options: { encoder: "mobilenet_v2_0.35" }, step: [8, 256, 256], inference: [1, 375, 500] },
  deeplabv3: { model: "deeplabv3", options: { encoder: "resnet50" }, step: [4, 128, 128], inference: [1, 256, 256] },
  quickstart: {
    model: "unet",
    options: { width: 16, depth: 3, upsampling: "bilinear" },
    step: [4, 64, 64],
    inference: [1, 128, 128],
  },
  unet32: { model: "unet", options: { width: 32 }, step: [4, 128, 128], inference: [1, 256, 256] },
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "9" },
    threads: { type: "string", default: String(availableParallelism()) },
    only: { type: "string" },
    cpu: { type: "boolean", default: false },
  },
})
const rounds = Number(values.rounds)
setThreads(Number(values.threads))

/** Milliseconds. */
function timed(fn: () => void): number {
  const [start, used] = [performance.now(), process.cpuUsage()]
  fn()
  if (!values.cpu) return performance.now() - start
  const { user, system } = process.cpuUsage(used)
  return (user + system) / 1000
}

const precisions = ["float32", "bfloat16"] as const
const rows: string[][] = []
for (const [name, { model: kind, options, step, inference }] of Object.entries(workloads)) {
  if (values.only !== undefined && values.only !== name) continue
  using model = createModel(kind, { ...options, numClasses: 21 })
  using optimizer = new AdamW(model.namedParameters(), 1e-3)
  const objective = createObjective({ terms: [{ name: "cross-entropy", factor: 1 }] })
  const [n, h, w] = step
  const [images, labels] = [randn([n, 3, h, w]), randint(0, 21, [n, h, w])]
  const image = randn([inference[0], 3, inference[1], inference[2]])
  const work: Record<string, (precision: Precision) => void> = {
    [`step ${step.join("x")}`]: (precision) => {
      model.train()
      tidy(() => {
        optimizer.zeroGrad()
        const loss = objective(callAtStride(model, images, precision), { labels }, { step: 0, progress: 0 })
        loss.backward()
        optimizer.step()
        loss.item()
      })
    },
    [`inference ${inference.join("x")}`]: (precision) => {
      model.eval()
      tidy(() => {
        using _ = noGrad()
        callIn(precision, model, image).logits.argmax({ dim: 1 }).size(0)
      })
    },
  }
  for (const [what, fn] of Object.entries(work)) {
    const times: Record<string, number[]> = { float32: [], bfloat16: [] }
    for (let round = -2; round < rounds; round++) {
      for (const precision of precisions) {
        const time = timed(() => fn(precision))
        if (round >= 0) times[precision]!.push(time)
      }
    }
    const [exact, rounded] = precisions.map((precision) => times[precision]!) as [number[], number[]]
    const ratios = exact.map((time, round) => time / rounded[round]!)
    const numbers = [median(exact), Math.min(...exact), median(rounded), Math.min(...rounded)]
    rows.push([name, what, ...numbers.map((time) => time.toFixed(0)), median(ratios).toFixed(2)])
  }
}
console.log(
  `n = ${rounds} rounds; ${cpus()[0]?.model.trim()}, ${values.threads} threads, ${buildInfo().bfloat16 ?? "no instructions for bfloat16"}; ` +
    `milliseconds${values.cpu ? " of processor time" : ""}`,
)
console.log(table(["model", "", "float32, median", "least", "bfloat16, median", "least", "float32 / bfloat16"], rows))
