// How long training takes until a mean IoU is reached on CamVid's validation split: LR-ASPP on MobileNetV2 of width 0.35 with ImageNet
// weights, `pixelwise train` beside plain_lraspp.py, from the start of the process: with that script's recipe,
// and with our defaults. All plan for --budget and evaluate ten times in it; what counts is the first evaluation that
// reaches --score, where the run is ended. They take turns, seed by seed, on a machine that does nothing else.
//   node scripts/with-node.mjs bench/time-to-score.ts --camvid CAMVID --weights mobilenet_v2_0.35.safetensors
//     [--score 58] [--seeds 3] [--budget 600] [--python /usr/bin/python3]
// bench/results/latest.json and docs/speed.svg have it beside what run.ts measures, if all runs of ours reached it. Where the script
// did not, its whole time counts, which is less than it needs.

import { type ChildProcess, execFileSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { parseArgs } from "node:util"
import { table } from "../src/cli/output.ts"
import { buildInfo } from "../src/torch/index.ts"
import { meanIoUIn, sameRecipe, startOurs, startPlain } from "./lraspp.ts"
import { describeMachine, keep, type Times, timesOf } from "./results.ts"

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
const folder = mkdtempSync(join(tmpdir(), "time-to-score-"))
process.on("exit", () => rmSync(folder, { recursive: true, force: true }))

/** Seconds until what `process` prints tells of a mean IoU that is high enough; and that mean IoU, or the last one. */
async function secondsOf(process: ChildProcess): Promise<readonly [seconds: number, meanIoU: number]> {
  const start = performance.now()
  let last = 0
  for await (const line of createInterface({ input: process.stdout! })) {
    last = meanIoUIn(line) ?? last
    if (last >= score) break
  }
  const seconds = (performance.now() - start) / 1000
  if (process.kill()) await once(process, "exit")
  return [seconds, last]
}

const rows: string[][] = []
const times: [same: number[], defaults: number[], python: number[]] = [[], [], []]
let isReached = true
for (const seed of Array.from({ length: Number(options.seeds) }, (_, k) => String(k))) {
  const training = { data: camvid, weights, seed }
  const ours = (name: string, recipe: readonly string[]) =>
    startOurs(training, join(folder, name), ["--budget", `${budget}s`, "--evaluations", "10", ...recipe])
  const measured = [
    await secondsOf(ours(`same-${seed}`, sameRecipe)),
    await secondsOf(ours(`defaults-${seed}`, [])),
    await secondsOf(
      startPlain(options.python, training, ["--seconds", budget, "--evaluations", "10", "--until", options.score]),
    ),
  ] as const
  for (const [k, [seconds, meanIoU]] of measured.entries()) {
    times[k]!.push(seconds)
    if (k < 2) isReached &&= meanIoU >= score // Python's whole time, where that was not enough, is less than what it needs
  }
  const cells = measured.map(([seconds, meanIoU]) =>
    meanIoU < score ? `not in ${seconds.toFixed(0)} (${meanIoU.toFixed(1)} %)` : seconds.toFixed(0),
  )
  rows.push([seed, ...cells])
  console.error(rows.at(-1)?.join(", "))
}
console.log(`Seconds until ${score} % mean IoU`)
console.log(table(["seed", "ours, same recipe", "ours, defaults", "plain_lraspp.py"], rows))

if (isReached) {
  const [same, defaults, python] = times.map(timesOf) as [Times, Times, Times]
  const version = execFileSync(options.python, ["-c", "import torch; print(torch.__version__)"], { encoding: "utf8" })
  const machine = describeMachine(availableParallelism(), { ours: buildInfo().libtorch, python: version.trim() })
  const counted = { digits: 0, rounds: rows.length, dropped: 0 }
  const about = { unit: `s until ${score} % mean IoU on CamVid`, ...counted, python }
  const ratioTo = (ours: Times) => ({ median: python.median / ours.median, minimum: python.minimum / ours.minimum })
  keep(machine, { name: "camvid-score", target: 1.6, ...about, ours: same, ratio: ratioTo(same) })
  keep(machine, { name: "camvid-score-defaults", ...about, ours: defaults, ratio: ratioTo(defaults) })
} else console.log("Not kept: a run of ours never reached the score.")
