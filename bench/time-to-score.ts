// How long training takes until a mean IoU is reached on CamVid's validation split: LR-ASPP on MobileNetV2 of width 0.35 with ImageNet
// weights, `pixelwise train` from its defaults beside plain_lraspp.py, from the start of the process. Both plan for --budget and
// evaluate ten times in it; what counts is the first evaluation that reaches --score, where the run is ended. One that never does
// counts as if it had at its end, and the table says so. The two take turns, seed by seed, on a machine that does nothing else.
//   node scripts/with-node.mjs bench/time-to-score.ts --camvid CAMVID --weights mobilenet_v2_0.35.safetensors
//     [--score 58] [--seeds 3] [--budget 600] [--python /usr/bin/python3]
// bench/results/latest.json and docs/speed.svg have it beside what run.ts measures.

import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { parseArgs } from "node:util"
import { table } from "../src/cli/output.ts"
import { buildInfo } from "../src/torch/index.ts"
import { describeMachine, keep, timesOf } from "./results.ts"

const { values: options } = parseArgs({
  options: {
    camvid: { type: "string" },
    weights: { type: "string" },
    score: { type: "string", default: "58" },
    seeds: { type: "string", default: "3" },
    budget: { type: "string", default: "600" },
    python: { type: "string", default: "/usr/bin/python3" },
  },
})
const { camvid, weights, budget } = options
if (!camvid || !weights) {
  console.error("bench/time-to-score.ts: give --camvid and --weights, see the first lines of the file.")
  process.exit(2)
}
const score = Number(options.score)
const root = resolve(import.meta.dirname, "..")
const folder = mkdtempSync(join(tmpdir(), "time-to-score-"))
process.on("exit", () => rmSync(folder, { recursive: true, force: true }))

/** Seconds until what `process` prints tells of a mean IoU that is high enough; and that mean IoU, or the last one. */
async function secondsOf(process: ChildProcess): Promise<readonly [seconds: number, meanIoU: number]> {
  const start = performance.now()
  let last = 0
  for await (const line of createInterface({ input: process.stdout! })) {
    last = Number(/(?:mean IoU|mIoU) (\d+\.\d+)/.exec(line)?.[1] ?? last)
    if (last >= score) break
  }
  const seconds = (performance.now() - start) / 1000
  if (process.kill()) await once(process, "exit")
  return [seconds, last]
}

const start = (program: string, args: readonly string[]) =>
  secondsOf(spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] }))

const rows: string[][] = []
const times: [number[], number[]] = [[], []]
for (const seed of Array.from({ length: Number(options.seeds) }, (_, k) => String(k))) {
  const common = ["--data", camvid, "--weights", weights, "--seed", seed]
  const model = ["--model", "lraspp", "--encoder", "mobilenet_v2_0.35"]
  const length = ["--budget", `${budget}s`, "--evaluations", "10", "--no-report", "--out", join(folder, seed)]
  const ours = await start(process.execPath, [join(root, "bin/pixelwise.js"), "train", ...common, ...model, ...length])
  const script = [
    join(root, "bench/plain_lraspp.py"),
    "--seconds",
    budget,
    "--evaluations",
    "10",
    "--until",
    options.score,
  ]
  const theirs = await start(options.python, [...script, ...common])
  times[0].push(ours[0])
  times[1].push(theirs[0])
  const cells = ([seconds, meanIoU]: typeof ours) => [
    seconds.toFixed(0),
    `${meanIoU.toFixed(1)}${meanIoU < score ? ", never" : ""}`,
  ]
  rows.push([seed, ...cells(ours), ...cells(theirs), `${(theirs[0] / ours[0]).toFixed(2)}x`])
  console.error(rows.at(-1)?.join(", "))
}
console.log(table(["seed", "ours, s", "mean IoU", "plain_lraspp.py, s", "mean IoU", "sooner"], rows))

const [ours, python] = [timesOf(times[0]), timesOf(times[1])]
const version = execFileSync(options.python, ["-c", "import torch; print(torch.__version__)"], { encoding: "utf8" })
const machine = describeMachine(availableParallelism(), { ours: buildInfo().libtorch, python: version.trim() })
const ratio = { median: python.median / ours.median, minimum: python.minimum / ours.minimum }
const counted = { digits: 0, rounds: times[0].length, dropped: 0, date: new Date().toISOString().slice(0, 10) }
const about = { name: "camvid-score", unit: `s until ${score} % mean IoU on CamVid`, target: 1.6 }
keep(machine, { ...about, ...counted, ours, python, ratio })
