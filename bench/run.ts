// npm run bench: our time beside that of the same work in Python's torch, on the same machine, libtorch and threads.
// The two run as separate processes that take turns (ours, Python, ours, Python ...). A round in which other processes kept more
// than --load of a core busy does not count. Reported are the median over the rounds, the best round, and the ratio Python / ours
// of each. bench/results/latest.json and docs/speed.svg have them after each workload, so it may be made in parts: --only.
//   npm run bench -- --data VOC2012 [--rounds 15] [--python /usr/bin/python3] [--only unet32-train,loader-files] [--threads 2] [--load 0.1]
//   npm run bench -- --levers    what each lever gives: ours against ours with that one switched off; without --only docs/levers.md
// Without --data only what needs no data set. The time until a score is reached is bench/time-to-score.ts.

import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { table } from "../src/cli/output.ts"
import { buildInfo, levers as isOn } from "../src/torch/index.ts"
import { Contestant } from "./contestant.ts"
import { type FileWorkload, fileWorkloads } from "./from-files.ts"
import {
  describeMachine,
  keep,
  keepLevers,
  type LeverResult,
  type Machine,
  type Result,
  type Times,
} from "./results.ts"
import { type Measure, type RoundOptions, type Rounds, takeTurns } from "./rounds.ts"
import { workloads } from "./workloads.ts"

const known = [...Object.keys(workloads), ...Object.keys(fileWorkloads)]
const usage = `npm run bench -- [--data VOC2012] [--rounds 15] [--only NAME,NAME] [--levers] [--threads N] [--load 0.1] [--python /usr/bin/python3]
Workloads: ${known.join(", ")}; those from files want --data.`

function readOptions() {
  const { values } = parseArgs({
    options: {
      data: { type: "string" },
      rounds: { type: "string", default: "15" },
      python: { type: "string", default: "/usr/bin/python3" },
      threads: { type: "string", default: String(availableParallelism()) },
      load: { type: "string", default: "0.1" },
      levers: { type: "boolean", default: false },
      only: { type: "string" },
      help: { type: "boolean", default: false },
    },
  })
  return values
}

/** Ends with a sentence and how to call this. */
function refuse(message: string): never {
  console.error(`bench: ${message}\n${usage}`)
  process.exit(2)
}

let options: ReturnType<typeof readOptions>
try {
  options = readOptions()
} catch (error) {
  refuse((error as Error).message)
}
if (options.help) {
  console.log(usage)
  process.exit()
}
const { data, python } = options
const [rounds, load, threads] = [Number(options.rounds), Number(options.load), Number(options.threads)]
if (!(rounds >= 1) || !(load >= 0)) refuse("--rounds is a whole number above 0, --load a number of cores")

const asked = options.only?.split(",") ?? known
const unknown = asked.filter((name) => !known.includes(name))
if (unknown.length > 0) refuse(`there is no workload ${unknown.join(", ")}`)
const chosen = Object.values(workloads).filter(({ name }) => asked.includes(name))
const chosenFromFiles = Object.values(fileWorkloads).filter(({ name }) => asked.includes(name))

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const ours = new Contestant(process.execPath, [here("ours.ts"), options.threads])
const warm: RoundOptions = { rounds, load, warmUps: 3 }

const ratioOf = (a: Times, b: Times): Times => ({ median: a.median / b.median, minimum: a.minimum / b.minimum })
const times = ({ median, minimum }: Times, digits: number) => [median.toFixed(digits), minimum.toFixed(digits)]
const ratios = ({ median, minimum }: Times) => [`${median.toFixed(2)}x`, `${minimum.toFixed(2)}x`]

/** Keeps a comparison with Python, and makes the table's row of it. */
function rowOf(
  machine: Machine,
  { name, unit, digits, target }: Pick<Result, "name" | "unit" | "digits" | "target">,
  { rounds, dropped, times: [own, theirs] }: Rounds,
): string[] {
  const ratio = ratioOf(theirs, own)
  const result = {
    name,
    unit,
    digits,
    rounds,
    dropped,
    ours: own,
    python: theirs,
    ratio,
    ...(target && { target }),
  }
  keep(machine, result)
  const numbers = [...times(own, digits), ...times(theirs, digits), ...ratios(ratio)]
  return [name, unit, String(rounds), String(dropped), ...numbers, target ? `${target}x` : ""]
}

async function benchNetworks(machine: Machine, theirs: Contestant): Promise<string[][]> {
  const rows: string[][] = []
  for (const workload of chosen) {
    const { name, perMillisecond } = workload
    const parameters = [await ours.ask(`parameters ${name}`), await theirs.ask(`parameters ${name}`)]
    if (parameters[0] !== parameters[1])
      throw new Error(`${name}: our model has ${parameters[0]} parameters, Python's ${parameters[1]}`)
    const side =
      (of: Contestant): Measure =>
      async () =>
        (await of.measure(name)) * perMillisecond
    const compared = await takeTurns(name, [side(ours), side(theirs)], warm)
    if (compared) rows.push(rowOf(machine, workload, compared))
  }
  return rows
}

async function benchFiles(machine: Machine, workloads: readonly FileWorkload[]): Promise<string[][]> {
  const rows: string[][] = []
  if (data === undefined) return rows
  for (const workload of workloads) {
    await using prepared = await workload.prepare({ data, python, threads })
    const compared = await takeTurns(workload.name, prepared.sides, { rounds, load, warmUps: 1 })
    if (compared) rows.push(rowOf(machine, workload, compared))
  }
  return rows
}

async function benchAgainstPython(): Promise<void> {
  const theirs = new Contestant(python, [here("plain_torch.py"), options.threads])
  const versions = { ours: await ours.ask("version"), python: await theirs.ask("version") }
  const release = (version: string) => version.split(".").slice(0, 2).join(".")
  if (release(versions.ours) !== release(versions.python)) {
    throw new Error(
      `ours runs on libtorch ${versions.ours}, Python on ${versions.python}: a comparison wants the same. See --python.`,
    )
  }
  const machine = describeMachine(threads, versions)
  const rows = await benchNetworks(machine, theirs)
  await theirs.end() // both give their memory back
  await ours.end()
  rows.push(...(await benchFiles(machine, chosenFromFiles)))
  const head = "workload,unit,n,dropped,ours,best,Python,best,ratio,of best,aim"
  console.log(table(head.split(","), rows))
  console.log(
    `\nMedians and best of n interleaved rounds; a ratio above 1 means ours is faster, the aim is for that of the best. ${machine.processor}, ${machine.threads} threads, libtorch ${versions.ours}, OpenBLAS for ${buildInfo().openBlasKernels ?? "none"}. Python's OpenMP waits as it does by default, ours sleeps (see src/torch/native.ts).`,
  )
  if (data === undefined && chosenFromFiles.length > 0)
    console.log(`Left out for want of --data VOC2012: ${chosenFromFiles.map(({ name }) => name).join(", ")}.`)
}

async function benchLevers(): Promise<void> {
  const version = await ours.ask("version")
  const machine = describeMachine(threads, { ours: version, python: "" })
  const results: LeverResult[] = []
  let isWhole = options.only === undefined
  for (const { name, levers, perMillisecond, digits } of chosen) {
    for (const lever of levers.filter((lever) => isOn[lever])) {
      const side =
        (question: string): Measure =>
        async () =>
          (await ours.measure(question)) * perMillisecond
      const compared = await takeTurns(`${name} ${lever}`, [side(name), side(`${name} ${lever}`)], warm)
      if (!compared) {
        isWhole = false
        continue
      }
      const [on, off] = compared.times
      const { rounds, dropped } = compared
      results.push({ name, lever, rounds, dropped, on, off, ratio: ratioOf(off, on), digits })
    }
  }
  const rows = results.map(({ name, lever, rounds, dropped, on, off, ratio, digits }) => {
    const n = [String(rounds), String(dropped)]
    return [name, lever, ...n, ...times(on, digits), ...times(off, digits), ...ratios(ratio)]
  })
  console.log(table("workload,lever,n,dropped,on,best,off,best,gain,of best".split(","), rows))
  if (isWhole) keepLevers(machine, results)
  await ours.end()
}

await (options.levers ? benchLevers() : benchAgainstPython())
