// npm run bench: our time beside that of the same work in Python's torch, on the same machine, libtorch and threads.
// The two run as separate processes that take turns (ours, Python, ours, Python ...), so that a change of the machine's
// speed meets both. A round in which other processes kept more than --load of a core busy does not count and is made again, up
// to three times as many rounds in all. Reported are the median over the rounds, the best round, and the ratio Python / ours
// of each. bench/results/latest.json and docs/speed.svg have them after each workload, so it may be made in parts: --only.
//   npm run bench [-- --rounds 15] [-- --python /usr/bin/python3] [-- --only unet32-train,lraspp-infer] [-- --threads 2] [-- --load 0.1]
//   npm run bench -- --levers    what each lever gives: ours against ours with that one switched off; results/levers.json

import { mkdirSync, writeFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { table } from "../src/cli/output.ts"
import { Contestant, watchOthers } from "./contestant.ts"
import { describeMachine, keep, type Times, timesOf } from "./results.ts"
import { type Workload, workloads } from "./workloads.ts"

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "15" },
    python: { type: "string", default: "/usr/bin/python3" },
    threads: { type: "string", default: String(availableParallelism()) },
    load: { type: "string", default: "0.1" },
    levers: { type: "boolean", default: false },
    only: { type: "string" },
  },
})
const [rounds, load] = [Number(options.rounds), Number(options.load)]
if (!(rounds >= 1) || !(load >= 0)) throw new Error("--rounds is a whole number above 0, --load a number of cores")

const asked = options.only?.split(",") ?? Object.keys(workloads)
const unknown = asked.filter((name) => !workloads[name])
if (unknown.length > 0)
  throw new Error(`no workload ${unknown.join(", ")}; there are ${Object.keys(workloads).join(", ")}`)
const chosen = Object.values(workloads).filter(({ name }) => asked.includes(name))

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const ours = new Contestant(process.execPath, [here("ours.ts"), options.threads])

/** One side of a comparison: who is asked, and what. */
interface Side {
  readonly of: Contestant
  readonly question: string
}

/** Lets two sides take turns until `rounds` rounds were undisturbed. */
async function compare({ name, perMillisecond }: Workload, sides: readonly [Side, Side]) {
  const pids = sides.map(({ of }) => of.pid)
  const times: [number[], number[]] = [[], []]
  let dropped = 0
  for (const { of, question } of sides) for (let k = 0; k < 3; k++) await of.measure(question) // warm up
  while (times[0].length < rounds && times[0].length + dropped < 3 * rounds) {
    const othersSince = watchOthers(pids)
    const round: number[] = []
    for (const { of, question } of sides) round.push((await of.measure(question)) * perMillisecond)
    if ((othersSince() ?? 0) > load) dropped++
    else for (const k of [0, 1] as const) times[k].push(round[k]!)
    process.stderr.write(`\r${name}: round ${times[0].length} of ${rounds}, ${dropped} dropped `)
  }
  process.stderr.write("\r\x1b[2K")
  if (times[0].length === 0) {
    console.error(`${name}: other processes disturbed all ${dropped} rounds (--load ${load}); not measured.`)
    return undefined
  }
  return { rounds: times[0].length, dropped, times: [timesOf(times[0]), timesOf(times[1])] as const }
}

const ratioOf = (a: Times, b: Times): Times => ({ median: a.median / b.median, minimum: a.minimum / b.minimum })
const times = ({ median, minimum }: Times, digits: number) => [median.toFixed(digits), minimum.toFixed(digits)]
const ratios = ({ median, minimum }: Times) => [`${median.toFixed(2)}x`, `${minimum.toFixed(2)}x`]

async function benchAgainstPython(): Promise<void> {
  const python = new Contestant(options.python, [here("plain_torch.py"), options.threads])
  const versions = { ours: await ours.ask("version"), python: await python.ask("version") }
  const release = (version: string) => version.split(".").slice(0, 2).join(".")
  if (release(versions.ours) !== release(versions.python)) {
    throw new Error(
      `ours runs on libtorch ${versions.ours}, Python on ${versions.python}: a comparison wants the same. See --python.`,
    )
  }
  const machine = describeMachine(Number(options.threads), versions)
  const rows: string[][] = []
  for (const workload of chosen) {
    const { name, unit, digits, target } = workload
    const parameters = [await ours.ask(`parameters ${name}`), await python.ask(`parameters ${name}`)]
    if (parameters[0] !== parameters[1])
      throw new Error(`${name}: our model has ${parameters[0]} parameters, Python's ${parameters[1]}`)
    const compared = await compare(workload, [
      { of: ours, question: name },
      { of: python, question: name },
    ])
    if (!compared) continue
    const [own, theirs] = compared.times
    const ratio = ratioOf(theirs, own)
    const counted = { rounds: compared.rounds, dropped: compared.dropped }
    const date = new Date().toISOString().slice(0, 10)
    const result = { name, unit, digits, ...counted, ours: own, python: theirs, ratio, ...(target && { target }), date }
    keep(machine, result, Object.keys(workloads))
    const aim = target ? `${target}x` : ""
    const n = [String(compared.rounds), String(compared.dropped)]
    rows.push([name, unit, ...n, ...times(own, digits), ...times(theirs, digits), ...ratios(ratio), aim])
  }
  python.end()
  const head = "workload,unit,n,dropped,ours,best,Python,best,ratio,of best,aim"
  console.log(table(head.split(","), rows))
  console.log(
    `\nMedians and best of n interleaved rounds; a ratio above 1 means ours is faster, the aim is for that of the best. ${machine.processor}, ${machine.threads} threads, libtorch ${versions.ours}. Python's OpenMP waits as it does by default, ours sleeps (see src/torch/native.ts).`,
  )
}

async function benchLevers(): Promise<void> {
  const version = await ours.ask("version")
  const machine = describeMachine(Number(options.threads), { ours: version, python: "" })
  const results = []
  for (const workload of chosen) {
    for (const lever of workload.levers) {
      const { name } = workload
      const compared = await compare(workload, [
        { of: ours, question: name },
        { of: ours, question: `${name} ${lever}` },
      ])
      if (!compared) continue
      const [on, off] = compared.times
      const { rounds, dropped } = compared
      results.push({ name, lever, rounds, dropped, on, off, ratio: ratioOf(off, on), digits: workload.digits })
    }
  }
  const rows = results.map(({ name, lever, rounds, dropped, on, off, ratio, digits }) => {
    const n = [String(rounds), String(dropped)]
    return [name, lever, ...n, ...times(on, digits), ...times(off, digits), ...ratios(ratio)]
  })
  console.log(table("workload,lever,n,dropped,on,best,off,best,gain,of best".split(","), rows))
  mkdirSync(here("results"), { recursive: true })
  writeFileSync(here("results/levers.json"), `${JSON.stringify({ machine, results }, null, 2)}\n`)
}

await (options.levers ? benchLevers() : benchAgainstPython())
ours.end()
