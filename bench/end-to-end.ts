// What a user waits for, beside the same by a torchvision script: the evaluation of 200 images, from the files to the scores, and the
// time from the command to the first training step. Each round is a process of its own; the two sides take turns. A round in
// which other processes kept more than --load of a core busy does not count and is made again, up to three times as many in all.
//   node scripts/with-node.mjs bench/end-to-end.ts --data VOC2012 [--rounds 9] [--images 200] [--split trainval]
//     [--model lraspp_mobilenet_v3_large] [--python /usr/bin/python3] [--threads 2] [--load 0.1]

import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { table } from "../src/cli/output.ts"
import { Contestant, watchOthers } from "./contestant.ts"
import { timesOf } from "./results.ts"

const { values: options } = parseArgs({
  options: {
    data: { type: "string" },
    split: { type: "string", default: "trainval" },
    rounds: { type: "string", default: "9" },
    images: { type: "string", default: "200" },
    model: { type: "string", default: "lraspp_mobilenet_v3_large" },
    python: { type: "string", default: "/usr/bin/python3" },
    threads: { type: "string", default: String(availableParallelism()) },
    load: { type: "string", default: "0.1" },
  },
})
const { data, split, images, model, threads } = options
if (data === undefined) {
  console.error("bench/end-to-end.ts: where is a data set in VOC layout? Give its folder: --data VOC2012")
  process.exit(2)
}
const [rounds, load] = [Number(options.rounds), Number(options.load)]
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const about = [threads, data, split, images, model]
const sides = [
  { program: process.execPath, args: [here("end-to-end-ours.ts"), ...about] },
  { program: options.python, args: [here("end_to_end_torch.py"), ...about] },
]

/** Seconds: of "evaluate" what the process says, of "first-step" from its start to its answer. */
async function measure(task: string, { program, args }: (typeof sides)[number]): Promise<[number, number | null]> {
  const start = performance.now()
  const contestant = new Contestant(program, args)
  const othersSince = watchOthers([contestant.pid])
  const seconds = await contestant.measure(task)
  const elapsed = (performance.now() - start) / 1000
  const others = othersSince()
  contestant.end()
  return [task === "first-step" ? elapsed : seconds, others]
}

const rows: string[][] = []
for (const task of ["evaluate", "first-step"]) {
  const times: [number[], number[]] = [[], []]
  let dropped = 0
  for (const side of sides) await measure(task, side) // the files come into the system's memory
  while (times[0].length < rounds && times[0].length + dropped < 3 * rounds) {
    const round = [await measure(task, sides[0]!), await measure(task, sides[1]!)] as const
    if (round.some(([, others]) => (others ?? 0) > load)) dropped++
    else for (const k of [0, 1] as const) times[k].push(round[k][0])
    process.stderr.write(`\r${task}: round ${times[0].length} of ${rounds}, ${dropped} dropped `)
  }
  process.stderr.write("\r\x1b[2K")
  const [ours, theirs] = [timesOf(times[0]), timesOf(times[1])]
  const seconds = [ours.median, ours.minimum, theirs.median, theirs.minimum].map((value) => value.toFixed(2))
  const ratios = [theirs.median / ours.median, theirs.minimum / ours.minimum].map((value) => `${value.toFixed(2)}x`)
  rows.push([task, String(times[0].length), String(dropped), ...seconds, ...ratios])
}
console.log(`${images} images of ${data}, ${model}, ${threads} threads; seconds`)
console.log(table("task,n,dropped,ours,best,torchvision,best,ratio,of best".split(","), rows))
